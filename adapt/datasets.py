"""The named data sets. Listing them imports none; adding one is a file, a line here, settings.

Outside of `adapt.data`, so that `--help`, which names them too, loads nothing of that.
"""

DATASETS = {
    "office31": "adapt.data.office31:Office31",
    "office-home": "adapt.data.office_home:OfficeHome",
    "visda": "adapt.data.visda:VisDA",
    "domainnet": "adapt.data.domainnet:DomainNet",
    "mini-domainnet": "adapt.data.mini_domainnet:MiniDomainNet",
    "imageclef": "adapt.data.imageclef:ImageCLEF",
    "digits": "adapt.data.digits:Digits",
    "demo-digits": "adapt.data.demo:DemoDigits",
    "demo-objects": "adapt.data.demo:DemoObjects",
}
"""Name to `module:Class`; the class fulfils `adapt.data.base.Dataset`."""

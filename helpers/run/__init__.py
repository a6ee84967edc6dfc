import sys

# jsonschema, which notebooks are checked with, compiles a grammar of web addresses where it finds this package: two to
# four seconds a process, for a check that none needs.
sys.modules.setdefault("rfc3987_syntax", None)

"""`manyhands loadtest`: how much a cluster takes, and how long a caller waits.

`run` leads. It makes or finds a cluster (`target`) and starts client processes (`clients`, each a
`driver`). It has them do one step after the other (`plan`, `saturation`), while `monitor` looks on. A
driver paces its tasks (`arrivals`), chooses them (`mix`, `tasks`), checks every answer (`ledger`) and
keeps HDR histograms (`latency`). What comes out is one document, which `markdown`, `page` and `compare`
show.
"""

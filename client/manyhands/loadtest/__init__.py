"""`manyhands loadtest`: how much a cluster takes, and how long it lets one wait.

`run` leads: it makes or finds a cluster (`target`), starts client processes (`clients`, each a `driver`)
and has them do one step after the other (`plan`, `saturation`) while `watch` looks on. A driver paces
its tasks (`arrivals`), chooses them (`mix`, `tasks`), checks every answer (`ledger`) and keeps HDR
histograms (`latency`). What comes out is one document, which `markdown`, `page` and `compare` show.
"""

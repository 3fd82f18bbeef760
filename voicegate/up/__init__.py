"""The programs: `voicegate up`, `voicegate relay` and `voicegate transceiver`.

    supervisor ─┬─ relay process           one public socket for each address and one hop socket for each worker
                ├─ relay process (spare)
                ├─ transceiver             a hop and a peer socket each; signaling and HTTP sockets are shared by all
                └─ transceiver

The supervisor opens every socket, lends them to its children, restarts a child that dies, answers for all of them when
metrics are asked for, and ends them in order. Read `plan` (what is to run), `supervisor`, `transceivers` and
`transceiver_process`, then `calls`, which joins signaling to the transceiver. `upgrade` puts a new relay in the place
of a running one, `admin` is what operators see. Relays keep their own processes: see `voicegate.relay.fleet`.
"""

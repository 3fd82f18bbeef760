"""The programs: `voicegate up`, `voicegate relay` and `voicegate transceiver`.

    supervisor ─┬─ relay worker            one public socket and one hop socket each
                ├─ relay worker
                ├─ transceiver             one hop socket each; signaling and HTTP sockets are shared by all
                └─ transceiver

The supervisor opens every socket, lends them to its children, restarts a child that dies, answers for all of them when
metrics are asked for, and ends them in order. Read `plan` (what is to run), `supervisor`, then the two children,
`relay_worker` and `transceiver_process`, and `calls`, which joins signaling to the transceiver.
"""

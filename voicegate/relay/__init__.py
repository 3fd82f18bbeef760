"""The relay: one public UDP port for a fleet. Not built yet; its wire contracts are in `voicegate.routing`."""

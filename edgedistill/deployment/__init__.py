"""Deployment to boards over SSH: the program sent, one board, a fleet."""

from edgedistill import public_name

__all__ = [
    "NAME",
    "BoardStatus",
    "Diagnosis",
    "Event",
    "EventCallback",
    "Facts",
    "Finding",
    "Host",
    "Outcome",
    "Request",
    "SshOptions",
    "connect",
    "deploy_to_all",
    "diagnose",
    "diagnosis",
    "exit_code",
    "hosts",
    "parse",
    "prepare_payload",
    "read_inventory",
    "read_signers",
    "run_on_all",
    "status",
    "write_program",
]
_HOMES = {
    "connection": ("SshOptions", "connect"),
    "deploy": ("deploy_to_all", "run_on_all"),
    "doctor": ("diagnosis",),
    "doctor.checks": ("Facts", "Finding"),
    "doctor.diagnosis": ("Diagnosis", "diagnose"),
    "hosts": ("Host", "parse", "read_inventory"),
    "payload": ("prepare_payload",),
    "status": ("BoardStatus",),
    "steps": ("Event", "EventCallback", "Outcome", "Request", "exit_code"),
    "trust": ("read_signers",),
    "zipapp": ("NAME", "write_program"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)

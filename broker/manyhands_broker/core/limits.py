"""The numbers that the scheduler decides by. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """See `manyhands_shared.config.BrokerConfig` for those that operators set."""

    lease: float = 15.0
    #: A node whose link closed has this long to come back over a new one.
    link_grace: float = 2.0
    session_grace: float = 60.0
    ping_interval: float = 5.0
    beat_interval: float = 1.0
    beat_port: int = 0
    #: Of `hash(str)` in all children; no limit, but told to nodes with these.
    hash_seed: int = 0
    #: What one key may have at the broker; see `model.quotas`.
    key_sessions: int = 256
    key_nodes: int = 4_096
    #: All nodes: the rows of the last-seen table, with some for those whose row is still in use.
    nodes: int = 8_000
    key_jobs: int = 100_000
    key_kinds: int = 64
    function_bytes: int = 256 << 20
    window_tasks: int = 1_000_000
    window_bytes: int = 1 << 30
    #: Unfinished tasks of durable jobs, which no window holds back.
    stored_tasks: int = 20_000_000
    #: What one session may leave untaken: results before its tasks wait, and answers before it gets no
    #: more of them.
    result_bytes: int = 256 << 20
    answer_bytes: int = 8 << 20
    #: The highest priority of those without a key of their own, and of admins.
    top_priority: int = 1_000
    crash_limit: int = 2
    #: Work that a slot may have waiting on its node. More keeps a core busy while a message travels
    #: (0.3 ms). Less leaves less to take back when one task turns out to be slow.
    horizon: float = 0.05
    #: A measured task shorter than half of this has one other waiting behind it. So its slot is never
    #: idle for the time of a message. Longer tasks do not notice that time.
    lookahead: float = 0.25
    #: Work below which a share is not split further: a message costs as much as this is worth.
    grain: float = 0.002
    #: Assumed for functions that have not been measured yet: one task for each slot.
    unmeasured: float = 0.05
    #: Tasks in one `Assign` group.
    batch_tasks: int = 2_048
    batch_bytes: int = 4 << 20
    #: A node with waiting tasks is asked to give some back when another has had idle slots this long.
    recall_after: float = 0.02
    #: A node with more tasks than slots and no result for this time is to give back what waits there,
    #: however busy all others are. Else that would wait for the long tasks in the slots.
    stalled_after: float = 1.0
    #: A task of a speculative job is slow once it has run for `speculate_factor` times the median of
    #: those that have ended. It must have run for `speculate_floor` seconds, too: before, it may merely
    #: have waited on its node. And `speculate_share` of the job must have ended.
    speculate_factor: float = 1.5
    speculate_floor: float = 0.5
    speculate_share: float = 0.75
    #: How soon a slow task is looked at again that found no free slot.
    speculate_again: float = 0.25
    #: After a restart, tasks from before it wait this long for nodes that run them already.
    rejoin_wait: float = 0.5
    #: Bytes of payloads of durable jobs that stay in memory; the rest is read back when needed.
    resident_bytes: int = 64 << 20
    #: Bytes of stored results that are read for a client at a time.
    page_bytes: int = 4 << 20
    #: Bytes of them that a client may leave unacknowledged before the broker stops sending. So much may
    #: still come after the client has asked for a pause.
    read_ahead: int = 16 << 20
    #: How long the journal has durable jobs after their end, in seconds.
    keep_results: float = 7 * 86_400.0
    #: Seconds within which a fleet that is large enough would be done with everything.
    scale_within: float = 60.0
    #: Finished jobs that are still shown.
    history: int = 1_000

    @property
    def renew_interval(self) -> float:
        """How often nodes renew: four chances within a lease."""
        return self.lease / 4

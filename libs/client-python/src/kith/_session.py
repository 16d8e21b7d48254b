"""What a client has written to and read from one collection, so that its reads see it; libs/client/token.ts has the same."""

from __future__ import annotations

import threading

from kith._checks import integer_of, shown
from kith.errors import error_of
from kith.types import ReadConsistency, Token
from kith.v1 import common_pb2


class Session:
    """The highest sequence per shard. The name of a collection may pass to another one while calls are in flight: the epoch rises whenever the session
    leaves a collection, and what comes late from one that was left is told by it. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequences: dict[int, int] = {}
        self.collection_id = ""
        self.epoch = 0

    def wrote(self, token: common_pb2.Token, epoch: int) -> None:
        """Takes in the token of a write that started in `epoch`."""
        with self._lock:
            if token.collection_id != self.collection_id:
                if epoch != self.epoch and self.collection_id != "":
                    return
                self._leave_for(token.collection_id)
            self._raise(token)

    def read(self, token: common_pb2.Token, epoch: int) -> None:
        """Takes in the token of a read that started in `epoch`; it never takes another collection's place."""
        with self._lock:
            if token.collection_id != self.collection_id:
                if epoch != self.epoch or self.collection_id != "":
                    return
                self.collection_id = token.collection_id
            self._raise(token)

    def begin(self, collection_id: str) -> None:
        """The collection with this id has the name now."""
        with self._lock:
            if collection_id != self.collection_id:
                self._leave_for(collection_id)

    def clear(self, epoch: int) -> None:
        """The collection that a call of `epoch` was about is gone, or another one has its name."""
        with self._lock:
            if epoch == self.epoch:
                self._leave_for("")

    def _leave_for(self, collection_id: str) -> None:
        self.epoch += 1
        self._sequences.clear()
        self.collection_id = collection_id

    def _raise(self, token: common_pb2.Token) -> None:
        for each in token.shards:
            if each.sequence > self._sequences.get(each.shard, 0):
                self._sequences[each.shard] = each.sequence

    @property
    def token(self) -> Token:
        with self._lock:
            return Token(self.collection_id, dict(self._sequences))

    @property
    def written(self) -> common_pb2.Token | None:
        token = self.token
        return token_to_wire(token) if token.shards else None

    def consistency(self, wanted: ReadConsistency) -> common_pb2.Consistency | None:
        """What a read sends for the consistency that its caller wants."""
        if isinstance(wanted, Token):
            return common_pb2.Consistency(at_least=token_to_wire(wanted))
        if wanted == "session":
            written = self.written
            return None if written is None else common_pb2.Consistency(at_least=written)
        if wanted == "none":
            return None
        if wanted == "linearizable":
            return common_pb2.Consistency(linearizable=True)
        raise error_of(
            "INVALID_ARGUMENT",
            f'the consistency {shown(wanted)} is unknown; use "session", "none", "linearizable" or a Token',
        )


def token_to_wire(token: Token) -> common_pb2.Token:
    if not isinstance(token, Token):
        raise error_of(
            "INVALID_TOKEN", f"the token is {shown(token)}; give a Token, as writes return it, or Token.from_json(...)"
        )
    shards = []
    for shard, sequence in token.shards.items():
        if integer_of(shard) is None or integer_of(sequence) is None or shard < 0 or sequence < 0:
            raise error_of(
                "INVALID_TOKEN",
                f"the token has {shown(shard)}: {shown(sequence)}; it maps shard numbers to log sequences, as writes return it",
            )
        shards.append(common_pb2.ShardSequence(shard=shard, sequence=sequence))
    return common_pb2.Token(collection_id=token.collection_id, shards=shards)


def token_from_wire(token: common_pb2.Token) -> Token:
    return Token(token.collection_id, {each.shard: each.sequence for each in token.shards})


def same_collection(name: str, collection_id: str, token: common_pb2.Token) -> str:
    """For a run of several calls, which must not go over to another collection of the same name: the id of the one that it is about."""
    if token.collection_id in ("", collection_id):
        return collection_id
    if collection_id == "":
        return token.collection_id
    raise error_of(
        "COLLECTION_NOT_FOUND",
        f'the collection "{name}" was deleted and made again meanwhile: this began with {collection_id}, and {token.collection_id} answered now; begin again',
        {"collection": name, "collectionId": collection_id, "found": token.collection_id},
    )

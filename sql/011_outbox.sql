-- Events that the bus did not take: kept by the minute until a worker has put them into the stream.
CREATE TABLE outbox (
    minute INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    conversation_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (minute, shard, conversation_id, seq)
) WITHOUT ROWID;

-- Which minutes of a day have any.
CREATE TABLE outbox_minutes (day INTEGER NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY (day, minute)) WITHOUT ROWID;

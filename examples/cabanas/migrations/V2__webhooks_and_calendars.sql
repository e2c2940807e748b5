-- Every webhook delivery that had an effect, so that a repeated delivery has none.
create table webhook_event (
    provider    text        not null,
    event_id    text        not null,
    kind        text        not null,
    received_at timestamptz not null default now(),
    primary key (provider, event_id)
);

-- Nights that other channels have sold, as their calendars say.
create table calendar_block (
    source    text    not null,
    uid       text    not null,
    cabin_id  integer not null references cabin (id),
    check_in  date    not null,
    check_out date    not null,
    primary key (source, uid),
    check (check_out > check_in)
);

-- When each channel's calendar was last imported without an error.
create table calendar_sync (
    source       text        primary key,
    events       integer     not null,
    succeeded_at timestamptz not null
);

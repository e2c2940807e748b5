-- The bookings themselves. Dates are nights: check_out is the first day the cabin is free again.
create table cabin (
    id   integer primary key,
    name text    not null
);

insert into cabin (id, name) values (1, 'Arrayán'), (2, 'Coihue'), (3, 'Lenga');

create table reservation (
    id              uuid        primary key,
    cabin_id        integer     not null references cabin (id),
    check_in        date        not null,
    check_out       date        not null,
    guest_name      text        not null,
    guest_phone     text,
    -- The client's Idempotency-Key. Redis answers repeated requests; this column makes sure that
    -- a key makes one reservation even when Redis has forgotten it.
    idempotency_key text        unique,
    source          text        not null default 'web',
    created_at      timestamptz not null default now(),
    check (check_out > check_in),
    -- Two guests never share a cabin. The one-element range stands in for an integer, which GiST
    -- cannot index without an extension.
    constraint reservation_no_overlap exclude using gist (
        int4range(cabin_id, cabin_id, '[]') with &&,
        daterange(check_in, check_out) with &&
    )
);

create index reservation_check_in on reservation (check_in);

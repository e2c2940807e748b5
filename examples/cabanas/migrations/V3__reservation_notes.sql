-- Since 1.5.0. Only adds, so that 1.4 still works on this schema; undo/U3__reservation_notes.sql
-- takes it back.
alter table reservation add column notes text;
create index reservation_created_at on reservation (created_at);

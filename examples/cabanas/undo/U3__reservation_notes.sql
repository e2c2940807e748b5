drop index reservation_created_at;
alter table reservation drop column notes;

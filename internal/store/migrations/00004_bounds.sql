-- +goose Up
-- How often somebody was refused one kind of act in one day: a row a day, however often they try.
create table refusals (
    day   bigint  not null,
    actor text    not null,
    act   text    not null,
    first bigint  not null,
    last  bigint  not null,
    count integer not null,
    primary key (day, actor, act)
) without rowid;

-- A start asks for what is open, however much is over.
create index confirmations_open on confirmations (made) where outcome = '';
create index operations_open on operations (began) where ended = 0;

-- Records stay for 400 days, those from the future as well. A day less here, since the store's own clock is asked a moment
-- earlier.
drop trigger records_stay;
-- +goose StatementBegin
create trigger records_stay before delete on records
when old.at >= (unixepoch() - 399 * 86400) * 1000000000 begin
    select raise(abort, 'records are append-only');
end;
-- +goose StatementEnd

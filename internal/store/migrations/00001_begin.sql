-- Times are nanoseconds since 1970 in UTC, 0 for none. Text is kept byte for byte.

-- +goose Up
create table messages (
    chat text   not null,
    id   text   not null,
    at   bigint not null,
    primary key (chat, id)
) without rowid;
create index messages_at on messages (at);

create table threads (
    chat    text    not null,
    channel text    not null,
    thread  text    not null,
    session text    not null,
    started boolean not null,
    model   text    not null,
    opened  bigint  not null,
    touched bigint  not null,
    primary key (chat, channel, thread)
) without rowid;
create index threads_touched on threads (touched);

create table turns (
    id      text   primary key not null,
    chat    text   not null,
    channel text   not null,
    thread  text   not null,
    message text   not null,
    actor   text   not null,
    prompt  text   not null,
    live    text   not null,
    doing   text   not null,
    began   bigint not null
);

create table confirmations (
    nonce     text    primary key not null,
    code      text    not null,
    verb      text    not null,
    vmid      integer not null,
    chat      text    not null,
    channel   text    not null,
    thread    text    not null,
    card      text    not null,
    requester text    not null,
    origin    text    not null,
    session   text    not null,
    made      bigint  not null,
    expires   bigint  not null,
    used      bigint  not null,
    used_by   text    not null,
    outcome   text    not null
);
create index confirmations_made on confirmations (made);

create table operations (
    id        text    primary key not null,
    verb      text    not null,
    vmid      integer not null,
    chat      text    not null,
    channel   text    not null,
    thread    text    not null,
    actor     text    not null,
    confirmer text    not null,
    began     bigint  not null,
    ended     bigint  not null,
    gate_op   text    not null,
    exit      integer not null,
    text      text    not null
);
create index operations_began on operations (began);

create table records (
    seq     integer primary key autoincrement,
    at      bigint  not null,
    actor   text    not null,
    act     text    not null,
    chat    text    not null,
    channel text    not null,
    thread  text    not null,
    subject text    not null,
    outcome text    not null,
    text    text    not null
);

create table cursors (
    chat  text not null,
    key   text not null,
    value text not null,
    primary key (chat, key)
) without rowid;

-- +goose StatementBegin
create trigger records_stay before delete on records begin
    select raise(abort, 'records are append-only');
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger records_stay_as_they_are before update on records begin
    select raise(abort, 'records are append-only');
end;
-- +goose StatementEnd
-- "replace" deletes without the trigger above unless recursive triggers are on.
-- +goose StatementBegin
create trigger records_are_not_replaced before insert on records
when exists (select 1 from records where seq = new.seq) begin
    select raise(abort, 'records are append-only');
end;
-- +goose StatementEnd

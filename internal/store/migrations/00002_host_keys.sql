-- +goose Up
-- What a card is about, when it is not a verb alone.
alter table confirmations add column subject text not null default '';

-- Host keys that a person accepted in place of the configured ones.
create table host_keys (
    vmid        integer primary key not null,
    pin         text    not null,
    accepted    text    not null,
    accepted_by text    not null,
    at          bigint  not null
);

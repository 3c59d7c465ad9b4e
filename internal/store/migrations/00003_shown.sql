-- +goose Up
-- What the chat shows of what a restart may cut: of a turn the text, of an operation the message and who is named in it.
alter table turns add column shown text not null default '';
alter table operations add column live text not null default '';
alter table operations add column name text not null default '';

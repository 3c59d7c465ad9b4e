package pve

import (
	"context"
	"errors"
	"log/slog"
)

// Client asks the gate of one VM.
type Client struct {
	host Host
	vmid int
	log  *slog.Logger
}

// NewClient does not connect yet.
func NewClient(h Host, vmid int, log *slog.Logger) *Client { return &Client{host: h, vmid: vmid, log: log} }

// Keep holds one warm connection to the host until ctx ends.
func (c *Client) Keep(ctx context.Context) { <-ctx.Done() }

// Run runs one verb.
func (c *Client) Run(ctx context.Context, v Verb, step func(Step)) (Report, error) {
	return Report{}, errors.New("not there yet")
}

// Close ends the connection and everything that the client started.
func (c *Client) Close() error { return nil }

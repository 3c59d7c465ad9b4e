package store

import (
	"context"
	"time"
)

// HostKey is the SSH host key of a VM that a person accepted in place of the configured one. Keys are "TYPE BASE64".
type HostKey struct {
	VMID int
	Pin  string // the key that was configured then; with another one in the configuration this one counts no more
	Key  string
	By   string
	At   time.Time
}

// hostKeyKey is the row of a host key.
type hostKeyKey int

const (
	upsertHostKey = `insert into host_keys (vmid, pin, accepted, accepted_by, at) values (?, ?, ?, ?, ?)
on conflict (vmid) do update set pin = excluded.pin, accepted = excluded.accepted, accepted_by = excluded.accepted_by, at = excluded.at`
	selectHostKeys = `select vmid, pin, accepted, accepted_by, at from host_keys`
)

func hostKeyWrite(k HostKey) *write {
	return newWrite(hostKeyKey(k.VMID), consent, upsertHostKey, k.VMID, k.Pin, k.Key, k.By, nanos(k.At))
}

func scanHostKey(row scanner) (k HostKey, err error) {
	var at int64
	err = row.Scan(&k.VMID, &k.Pin, &k.Key, &k.By, &at)
	k.At = instant(at)
	return k, err
}

// HostKey is the newest accepted key of a VM, if there is one. It never waits.
func (s *Store) HostKey(_ context.Context, vmid int) (HostKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.hostKeys[vmid]
	return k, ok
}

// AcceptHostKey keeps k as the key of its VM, in place of any older one.
func (s *Store) AcceptHostKey(ctx context.Context, k HostKey) {
	s.mu.Lock()
	w := s.enqueue(hostKeyWrite(k))
	s.hostKeys[k.VMID] = k
	s.mu.Unlock()
	s.settled(ctx, w)
}

func (s *Store) loadHostKeys() error {
	rows, err := list(s.work, s.db, scanHostKey, selectHostKeys)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range rows {
		if _, known := s.hostKeys[k.VMID]; !known { // memory knows better
			s.hostKeys[k.VMID] = k
		}
	}
	return err
}

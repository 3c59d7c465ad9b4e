package store

import (
	"cmp"
	"iter"
	"slices"
)

// recent holds about as many of the rows used last as it was told to, and all that must stay. The caller locks.
type recent[K comparable, V any] struct {
	least int             // rows to hold
	limit int             // rows at which to forget some
	stays func(K, V) bool // a row that may not be forgotten: open, or not yet on disk
	rows  map[K]*held[V]
	clock uint64
}

type held[V any] struct {
	value V
	used  uint64
}

func newRecent[K comparable, V any](least int, stays func(K, V) bool) recent[K, V] {
	return recent[K, V]{least: least, limit: least, stays: stays, rows: make(map[K]*held[V])}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	h, ok := r.rows[k]
	if !ok {
		var none V
		return none, false
	}
	r.clock++
	h.used = r.clock
	return h.value, true
}

func (r *recent[K, V]) put(k K, v V) {
	r.clock++
	if h, ok := r.rows[k]; ok {
		h.value, h.used = v, r.clock
		return
	}
	r.rows[k] = &held[V]{value: v, used: r.clock}
	if len(r.rows) > r.limit {
		r.forget()
	}
}

func (r *recent[K, V]) drop(k K) { delete(r.rows, k) }

// learn puts what the disk says, unless memory knows better.
func (r *recent[K, V]) learn(k K, v V) {
	if _, ok := r.rows[k]; !ok {
		r.put(k, v)
	}
}

func (r *recent[K, V]) values() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, h := range r.rows {
			if !yield(k, h.value) {
				return
			}
		}
	}
}

// forget drops the quarter that was used longest ago, so that its cost is spread over many puts. When most rows must
// stay, the limit grows with them, or each put would sort them all again.
func (r *recent[K, V]) forget() {
	type candidate struct {
		key  K
		used uint64
	}
	var free []candidate
	for k, h := range r.rows {
		if h.used != r.clock && !r.stays(k, h.value) {
			free = append(free, candidate{k, h.used})
		}
	}
	slices.SortFunc(free, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	for _, c := range free[:min(len(free), len(r.rows)-r.least+r.least/4)] {
		delete(r.rows, c.key)
	}
	r.limit = max(r.least, len(r.rows)+r.least/4)
}

package lab

import (
	"testing"
	"time"
)

func TestThin(t *testing.T) {
	b := time.Now()
	l, err := Start(t.Context(), Options{Scenario: "io-stall", VM: QEMU, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("up and broken", time.Since(b))
	r := onHost(t, l, "status")
	t.Log(r)
	b = time.Now()
	r = onHost(t, l, "cycle")
	t.Log(time.Since(b), r)
	recovers(t, l)
	t.Log("recovered", time.Since(b))
	b = time.Now()
	r = onHost(t, l, "cycle")
	t.Log("healthy cycle", time.Since(b), r)
	b = time.Now()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Log("closed", time.Since(b))
}

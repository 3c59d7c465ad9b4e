package seldom

import (
	"testing"
	"time"
)

func TestOneASecondAndTheCountOfTheRest(t *testing.T) {
	t.Parallel()
	var p Pace
	began, said := time.Now(), 0
	for ms := range 2500 { // a thousand a second
		left, yes := p.At(began.Add(time.Duration(ms) * time.Millisecond))
		if !yes {
			continue
		}
		if said++; said > 1 && left != 999 {
			t.Errorf("%d were left out", left)
		}
	}
	if said != 3 {
		t.Errorf("%d were said", said)
	}
}

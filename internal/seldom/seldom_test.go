package seldom

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestOneASecondAndTheCountOfTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		said := 0
		for range 2500 { // a thousand a second
			if left, yes := p.Now(); yes {
				if said++; said > 1 && left != 999 {
					t.Errorf("%d were left out", left)
				}
			}
			time.Sleep(time.Millisecond)
		}
		if said != 3 {
			t.Errorf("%d were said", said)
		}
	})
}

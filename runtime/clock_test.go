package runtime

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// setClock is what the container's record looks like after the host's clock was set by that much: it began at another time, by the clock.
func (b *brigd) setClock(t *testing.T, name string, by time.Duration) {
	t.Helper()
	ct, err := b.find(name)
	if err != nil {
		t.Fatal(err)
	}
	next := b.record(ct).Clone()
	next.StartedAt = next.StartedAt.Add(-by)
	b.show(ct, next)
}

// The host's clock is set while a container runs: its restarts, its health and how long it is said to have run go by the time that has passed.
func TestClockSet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.feel(1, "not yet")
				b := w.boot(0)
				defer b.Close()
				s := probed(brig.HealthCheck{Interval: 10 * time.Second, StartPeriod: 5 * time.Second, StartInterval: time.Second, Retries: 1})
				s.Restart.Name = "always"
				b.run(t, "x1", s)
				for i, c := range []struct{ ran, pause time.Duration }{{time.Second, 100 * time.Millisecond}, {time.Second, 200 * time.Millisecond}, {10 * time.Second, 100 * time.Millisecond}, {2 * time.Second, 200 * time.Millisecond}} {
					b.setClock(t, "x1", by)
					time.Sleep(c.ran)
					w.finishAll(1)
					synctest.Wait()
					ended := time.Now()
					for b.get(t, "x1").State == brig.Restarting {
						time.Sleep(time.Millisecond)
						synctest.Wait()
					}
					if got := time.Since(ended); got != c.pause {
						t.Errorf("end %d, after %v: pause %v, want %v", i, c.ran, got, c.pause)
					}
					if got, want := w.lastDuration(), fmt.Sprint(int(c.ran.Seconds())); got != want {
						t.Errorf("end %d: the event says it ran %s s, want %s", i, got, want)
					}
				}
				b.setClock(t, "x1", by)
				time.Sleep(4500 * time.Millisecond)
				b.wantHealth(t, "in the start period", "starting", 0, 5) // the last run's among them
				time.Sleep(time.Second)
				b.wantHealth(t, "after it", "unhealthy", 1, 5)
			})
		})
	}
}

// lastDuration is what the last event of an end says of the run's duration.
func (w *world) lastDuration() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.events) - 1; i >= 0; i-- {
		if w.events[i].Action == "die" {
			return w.events[i].Attributes["execDuration"]
		}
	}
	return "no end"
}

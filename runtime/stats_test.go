package runtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Stats counts nanoseconds since the start of the year 2000, so that two samples differ by what lies between them.
func (b *freezeSeam) Stats(_ context.Context, h *brig.Handle) (brig.Sample, error) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	p := b.jails[h.JailID]
	if p == nil || p.exit != nil {
		return brig.Sample{}, errs.New(errs.NotFound, "no such jail")
	}
	now := time.Now()
	return brig.Sample{Read: now, CPU: brig.CPUStats{Total: uint64(now.UnixNano())}, Pids: brig.PidsStats{Current: 1}}, nil
}

func TestStatsOnce(t *testing.T) {
	b := newWorld(t).boot(0)
	b.make(t, "still", spec("sleep"))
	b.run(t, "busy", spec("sleep"))
	b.run(t, "paused", spec("sleep"))
	if err := b.Pause(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref           string
		o             brig.StatsOptions
		runs, compare bool
	}{
		{"still", brig.StatsOptions{}, false, false},
		{"still", brig.StatsOptions{OneShot: true}, false, false},
		{"busy", brig.StatsOptions{OneShot: true}, true, false},
		{"paused", brig.StatsOptions{OneShot: true}, true, false},
		{"busy", brig.StatsOptions{}, true, true},
	} {
		var got []brig.Stats
		if err := b.Stats(t.Context(), c.ref, c.o, func(s brig.Stats) error { got = append(got, s); return nil }); err != nil {
			t.Errorf("%s %+v: %v", c.ref, c.o, err)
		}
		if len(got) != 1 || got[0].Name != c.ref || got[0].ID == "" || got[0].Read.IsZero() == c.runs || got[0].Before.Read.IsZero() == c.compare {
			t.Errorf("%s %+v: %+v", c.ref, c.o, got)
		}
	}
	err := b.Stats(t.Context(), "nosuch", brig.StatsOptions{}, nil)
	wantErr(t, "no such", err, errs.NotFound, "No such container: nosuch")
	err = b.Stats(t.Context(), "busy", brig.StatsOptions{Stream: true, OneShot: true}, nil)
	wantErr(t, "both", err, errs.Invalid, "cannot have stream=true and one-shot=true")
}

// TestStatsStream follows a container from before its start to its removal.
func TestStatsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		defer b.Close()
		b.make(t, "busy", spec("sleep"))
		frames, done := make(chan brig.Stats), make(chan error, 1)
		go func() {
			done <- b.Stats(t.Context(), "busy", brig.StatsOptions{Stream: true}, func(s brig.Stats) error { frames <- s; return nil })
		}()
		if s := <-frames; !s.Read.IsZero() || s.Pids.Current != 0 {
			t.Errorf("before the start: %+v", s)
		}
		if err := b.Containers.Start(t.Context(), "busy"); err != nil {
			t.Fatal(err)
		}
		first, second := <-frames, <-frames
		if first.Read.IsZero() || !first.Before.Read.IsZero() {
			t.Errorf("first of the run: %+v", first)
		}
		if d := second.CPU.Total - second.Before.CPU.Total; second.Before.CPU.Total != first.CPU.Total || d != uint64(time.Second) {
			t.Errorf("second: %d after the first, %+v", d, second)
		}
		if err := b.Kill(t.Context(), "busy", ""); err != nil {
			t.Fatal(err)
		}
		if s := <-frames; !s.Read.IsZero() || !s.Before.Read.IsZero() || s.CPU.Total != 0 {
			t.Errorf("after the end: %+v", s)
		}
		if err := b.Remove(t.Context(), "busy", brig.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("after the removal: %v", err)
		}
	})
}

func TestStatsEnds(t *testing.T) {
	b := newWorld(t).boot(0)
	b.run(t, "busy", spec("sleep"))
	full := errors.New("the client has gone")
	if err := b.Stats(t.Context(), "busy", brig.StatsOptions{Stream: true}, func(brig.Stats) error { return full }); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := b.Stats(ctx, "busy", brig.StatsOptions{Stream: true}, func(brig.Stats) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ends: %v", err)
	}
}

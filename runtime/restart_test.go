package runtime

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// policy is the spec of a container with a restart policy.
func policy(name string, retries int, args ...string) brig.Spec {
	s := spec(args...)
	s.Restart = brig.RestartPolicy{Name: name, MaxRetries: retries}
	return s
}

// finishAll ends all processes with that code.
func (w *world) finishAll(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.jails {
		p.finish(code)
	}
}

func TestRestartPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		defer b.Close()
		began := time.Now()
		b.run(t, "failing", policy("on-failure", 3, "false"))
		for b.get(t, "failing").State != brig.Exited { // the wait is answered at each end, as Docker's
			if e := b.wait(t, "failing", brig.WaitNotRunning); e.Code != 1 {
				t.Errorf("exit %+v", e)
			}
		}
		if took := time.Since(began); took != (100+200+400)*time.Millisecond {
			t.Errorf("three retries took %v", took)
		}
		if d := b.get(t, "failing"); d.RestartCount != 3 || d.State != brig.Exited {
			t.Errorf("%+v", d.Status)
		}
		b.run(t, "always", policy("always", 0, "false"))
		time.Sleep(time.Hour)
		if d := b.get(t, "always"); d.State != brig.Restarting && d.State != brig.Running || d.RestartCount < 50 {
			t.Errorf("always: %+v", d.Status)
		}
		wantErr(t, "start in the pause", b.Start(t.Context(), "always"), errs.NotModified, "already running")
		if err := b.Stop(t.Context(), "always", brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := b.get(t, "always"); d.State != brig.Exited {
			t.Errorf("stopped while restarting: %v", d.State)
		}
		time.Sleep(time.Hour)
		if d := b.get(t, "always"); d.State != brig.Exited {
			t.Errorf("came back after a stop: %v", d.State)
		}
		b.run(t, "kept", policy("unless-stopped", 0, "sleep"))
		if err := b.Containers.Remove(t.Context(), "kept", brig.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		b.checkNothingLeft(t)
	})
}

// TestBackoff measures the pauses: they double from 100 ms up to a minute, and a run of 10 s begins them anew.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		defer b.Close()
		b.run(t, "one", policy("always", 0, "sleep"))
		// after ends the run once it has lasted ran, and returns the pause that follows.
		after := func(ran time.Duration) time.Duration {
			time.Sleep(ran)
			w.finishAll(1)
			synctest.Wait()
			if d := b.get(t, "one"); d.State != brig.Restarting {
				t.Fatalf("after its end it is %v", d.State)
			}
			ended := time.Now()
			for b.get(t, "one").State == brig.Restarting {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			return time.Since(ended)
		}
		want := 100 * time.Millisecond
		for range 14 {
			if got := after(0); got != want {
				t.Errorf("pause %v, want %v", got, want)
			}
			want = min(2*want, time.Minute)
		}
		if got := after(9999 * time.Millisecond); got != time.Minute {
			t.Errorf("after a run of almost 10 s: %v", got)
		}
		if got := after(10 * time.Second); got != 100*time.Millisecond {
			t.Errorf("after a run of 10 s: %v", got)
		}
		if got := after(0); got != 200*time.Millisecond {
			t.Errorf("after a short one again: %v", got)
		}
		if n := b.get(t, "one").RestartCount; n != 17 {
			t.Errorf("%d restarts", n)
		}
	})
}

// TestStopDuringRestart lets an automatic start come between a stop's look at the container and its halt.
func TestStopDuringRestart(t *testing.T) {
	for name, end := range map[string]func(*brigd, *testing.T) error{
		"stop": func(b *brigd, t *testing.T) error { return b.Stop(t.Context(), "one", brig.StopOptions{}) },
		"kill": func(b *brigd, t *testing.T) error { return b.Kill(t.Context(), "one", "") },
		"TERM": func(b *brigd, t *testing.T) error { return b.Kill(t.Context(), "one", "TERM") },
		"rm": func(b *brigd, t *testing.T) error {
			return b.Remove(t.Context(), "one", brig.RemoveOptions{Force: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				b := w.boot(0)
				defer b.Close()
				b.run(t, "one", policy("always", 0, "sleep"))
				ct, err := b.find("one")
				if err != nil {
					t.Fatal(err)
				}
				w.finishAll(1)
				synctest.Wait()
				if err := ct.lock.acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.Containers.mu.Lock()
				ct.halt = nil // the pause is over, and the start is under way
				b.Containers.mu.Unlock()
				ended := make(chan error, 1)
				go func() { ended <- end(b, t) }()
				synctest.Wait()
				if err := b.start(t.Context(), ct, b.record(ct).Clone()); err != nil {
					t.Fatal(err)
				}
				ct.lock.release()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				time.Sleep(time.Hour)
				if d, err := b.Containers.Get(t.Context(), "one"); err == nil && (d.State != brig.Exited || name == "rm") {
					t.Errorf("it is %v", d.State)
				}
				b.checkNothingLeft(t)
			})
		})
	}
}

// TestRestartDuringRecovery has a slow sweep: what a policy starts again must not begin before it is over, for the sweep doesn't know it.
func TestRestartDuringRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		b.run(t, "one", policy("on-failure", 0, "sleep"))
		b.Close()
		w.finishAll(3)
		w.onSweep = func() { time.Sleep(time.Second) }
		b = w.boot(0)
		defer b.Close()
		time.Sleep(time.Second)
		if d := b.get(t, "one"); d.State != brig.Running || d.RestartCount != 0 {
			t.Errorf("%+v", d.Status)
		}
	})
}

// TestKillInThePause ends the pause by any signal, if the container has no stop signal of its own, and by that one if it has.
func TestKillInThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		defer b.Close()
		b.run(t, "any", policy("always", 0, "false"))
		s := policy("always", 0, "false")
		s.StopSignal = "INT"
		b.run(t, "int", s)
		time.Sleep(time.Hour)
		for _, c := range []struct {
			name, sig string
			want      brig.State
		}{{"any", "HUP", brig.Exited}, {"int", "HUP", brig.Restarting}, {"int", "INT", brig.Exited}} {
			if err := b.Kill(t.Context(), c.name, c.sig); err != nil {
				t.Errorf("%s, %s: %v", c.name, c.sig, err)
			}
			if d := b.get(t, c.name); d.State != c.want || d.ExitCode != 1 {
				t.Errorf("%s, %s: %+v", c.name, c.sig, d.Status)
			}
		}
	})
}

// TestRestartsAcrossBoots is what policies do when the process ends while no brigd runs, or brigd ends in the pause.
func TestRestartsAcrossBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		b.run(t, "twice", policy("on-failure", 2, "sleep"))
		b.run(t, "used", policy("on-failure", 1, "sleep"))
		b.run(t, "success", policy("on-failure", 0, "sleep"))
		b.run(t, "pausing", policy("always", 0, "false"))
		b.run(t, "asked", policy("unless-stopped", 0, "stubborn"))
		b.run(t, "always", policy("always", 0, "stubborn"))
		w.mu.Lock()
		w.jails[b.get(t, "used").Handle.JailID].finish(1)
		w.mu.Unlock()
		time.Sleep(time.Minute)
		for _, name := range []string{"asked", "always"} {
			if err := b.Kill(t.Context(), name, "TERM"); err != nil { // acknowledged, and not obeyed yet
				t.Fatal(err)
			}
		}
		if n := b.get(t, "pausing").RestartCount; n < 9 {
			t.Fatalf("%d restarts in a minute", n)
		}
		w.mu.Lock()
		w.jails[b.get(t, "success").Handle.JailID].finish(0)
		w.mu.Unlock()
		b.Close()
		w.finishAll(143)

		b = w.boot(0)
		defer b.Close()
		time.Sleep(time.Second)
		for _, c := range []struct {
			name     string
			state    brig.State
			restarts int // -1: some, and fewer than before
		}{
			{"twice", brig.Running, 0}, {"used", brig.Exited, 1}, {"success", brig.Exited, 0}, {"pausing", brig.Restarting, -1}, {"asked", brig.Exited, 0}, {"always", brig.Running, 0},
		} {
			d := b.get(t, c.name)
			if d.State != c.state || c.restarts >= 0 && d.RestartCount != c.restarts || c.restarts < 0 && (d.RestartCount < 1 || d.RestartCount > 8) {
				t.Errorf("%s: %+v", c.name, d.Status)
			}
		}
	})
}

package runtime

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
)

func probed(h brig.HealthCheck) brig.Spec {
	s := spec("sleep")
	h.Test = []string{"CMD", "probe"}
	s.Health = &h
	return s
}

// feel sets how "probe" will end.
func (w *world) feel(code int, symptom string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sick, w.symptom = code, symptom
}

func (w *world) probed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes
}

func (b *brigd) wantHealth(t *testing.T, when, status string, streak, logged int) {
	t.Helper()
	synctest.Wait()
	h := b.get(t, "x1").Health
	if h == nil || h.Status != status || h.FailingStreak != streak || len(h.Log) != logged {
		t.Errorf("%s: health is %+v, want %s, %d failures, %d results", when, h, status, streak, logged)
	}
}

func (w *world) healthEvents() (out []string) {
	for _, a := range w.actions() {
		if s, ok := strings.CutPrefix(a, "container health_status: "); ok {
			out = append(out, s)
		}
	}
	return out
}

func TestHealthLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		b.run(t, "x1", probed(brig.HealthCheck{Interval: time.Second, Retries: 2}))
		b.wantHealth(t, "at the start", "starting", 0, 0)
		time.Sleep(1001 * time.Millisecond)
		b.wantHealth(t, "after a success", "healthy", 0, 1)
		w.feel(1, strings.Repeat("x", 5000))
		time.Sleep(time.Second)
		b.wantHealth(t, "after a failure", "healthy", 1, 2)
		if last := b.get(t, "x1").Health.Log[1]; last.ExitCode != 1 || len(last.Output) != 4096+3 || last.End.Before(last.Start) {
			t.Errorf("the failure's result: code %d, %d bytes", last.ExitCode, len(last.Output))
		}
		time.Sleep(5 * time.Second)
		b.wantHealth(t, "after more", "unhealthy", 6, 5)
		w.feel(0, "")
		time.Sleep(time.Second)
		b.wantHealth(t, "after its recovery", "healthy", 0, 5)
		if err := b.Containers.Pause(t.Context(), "x1"); err != nil {
			t.Fatal(err)
		}
		n := w.probed()
		time.Sleep(time.Minute)
		b.wantHealth(t, "paused", "unhealthy", 0, 5)
		if w.probed() != n {
			t.Error("a paused container was probed")
		}
		if err := b.Containers.Unpause(t.Context(), "x1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1001 * time.Millisecond)
		b.wantHealth(t, "unpaused", "healthy", 0, 5)
		if err := b.Kill(t.Context(), "x1", ""); err != nil {
			t.Fatal(err)
		}
		n = w.probed()
		time.Sleep(time.Minute)
		b.wantHealth(t, "killed", "unhealthy", 0, 5)
		if w.probed() != n {
			t.Error("an ended container was probed")
		}
		if err := b.Containers.Start(t.Context(), "x1"); err != nil {
			t.Fatal(err)
		}
		b.wantHealth(t, "started again", "starting", 0, 5)
		if got, want := w.healthEvents(), []string{"healthy", "unhealthy", "healthy", "healthy"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		for _, want := range []string{"container exec_create: probe ", "container exec_start: probe ", "container exec_die"} {
			if !slices.Contains(w.actions(), want) {
				t.Errorf("no event %q", want)
			}
		}
		b.Containers.Close()
		if len(b.execs) > 1 {
			t.Errorf("%d execs are kept", len(b.execs))
		}
	})
}

// Failures in the start period don't count, and the start interval is used in it until the first success.
func TestHealthStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		w.feel(1, "not yet")
		b.run(t, "x1", probed(brig.HealthCheck{Interval: 10 * time.Second, StartPeriod: 5 * time.Second, StartInterval: time.Second, Retries: 1}))
		time.Sleep(4500 * time.Millisecond)
		b.wantHealth(t, "in the start period", "starting", 0, 4)
		time.Sleep(time.Second) // the last probe of the period is at 5 s, which is its end
		b.wantHealth(t, "after it", "unhealthy", 1, 5)
		n := w.probed()
		time.Sleep(9 * time.Second)
		if w.probed() != n {
			t.Error("the start interval is still used")
		}
		w.feel(0, "")
		time.Sleep(time.Second)
		b.wantHealth(t, "at the next interval", "healthy", 0, 5)
		b.Containers.Close()
	})
}

func TestHealthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		w.feel(-1, "thinking")
		b.run(t, "x1", probed(brig.HealthCheck{Interval: time.Second, Timeout: 2 * time.Second, Retries: 1}))
		time.Sleep(3001 * time.Millisecond)
		b.wantHealth(t, "after the timeout", "unhealthy", 1, 1)
		if r := b.get(t, "x1").Health.Log[0]; r.ExitCode != -1 || r.Output != "Health check exceeded timeout (2s): thinking" {
			t.Errorf("result %+v", r)
		}
		time.Sleep(time.Second) // the next one hangs
		if err := b.Kill(t.Context(), "x1", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.mu.Lock()
		if len(w.hung) > 0 {
			t.Error("the container has ended and its probe has not been killed")
		}
		w.mu.Unlock()
		b.Containers.Close()
	})
}

func TestHealthAcrossBrigds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.boot(0)
		b.run(t, "x1", probed(brig.HealthCheck{Interval: time.Second, Retries: 1}))
		time.Sleep(1001 * time.Millisecond)
		b.wantHealth(t, "before", "healthy", 0, 1)
		b.Containers.Close()
		w.feel(3, "broken")
		b = w.boot(0)
		b.wantHealth(t, "taken over", "healthy", 0, 1)
		time.Sleep(1001 * time.Millisecond)
		b.wantHealth(t, "probed by the next brigd", "unhealthy", 1, 2)
		b.Containers.Close()
	})
}

// probeArgs: which commands run, and what switches a check off.
func TestHealthOff(t *testing.T) {
	for _, c := range []struct {
		test []string
		want string
	}{
		{nil, ""}, {[]string{}, ""}, {[]string{"NONE"}, ""}, {[]string{"CMD"}, ""}, {[]string{"ODD", "x"}, ""},
		{[]string{"CMD", "a", "b c"}, "a|b c"}, {[]string{"CMD-SHELL", "a b"}, "/bin/bash|-c|a b"},
	} {
		got := strings.Join(probeArgs(&brig.Spec{Shell: []string{"/bin/bash", "-c"}, Health: &brig.HealthCheck{Test: c.test}}), "|")
		if got != c.want {
			t.Errorf("%q runs %q, want %q", c.test, got, c.want)
		}
	}
	got := probeArgs(&brig.Spec{Health: &brig.HealthCheck{Test: []string{"CMD-SHELL", "x"}}})
	if want := []string{"/bin/sh", "-c", "x"}; !slices.Equal(got, want) {
		t.Errorf("without a shell: %q", got)
	}
	if probeArgs(&brig.Spec{}) != nil || freshHealth(&brig.Container{}) != nil {
		t.Error("a container without a health check has one")
	}
}

package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/records"
)

func spec(args ...string) brig.Spec { return brig.Spec{Image: "img", Cmd: args} }

func (b *brigd) make(t *testing.T, name string, s brig.Spec) brig.ID {
	t.Helper()
	id, _, err := b.Create(t.Context(), brig.CreateRequest{Name: name, Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *brigd) run(t *testing.T, name string, s brig.Spec) brig.ID {
	t.Helper()
	id := b.make(t, name, s)
	if err := b.Containers.Start(t.Context(), string(id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *brigd) wait(t *testing.T, ref string, c brig.WaitCondition) brig.Exit {
	t.Helper()
	ch, err := b.Wait(t.Context(), ref, c)
	if err != nil {
		t.Fatal(err)
	}
	return <-ch
}

func (b *brigd) get(t *testing.T, ref string) *brig.Container {
	t.Helper()
	d, err := b.Containers.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantErr(t *testing.T, what string, err error, k errs.Kind, text string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v (%v), want %v with %q", what, err, errs.KindOf(err), k, text)
	}
}

func TestRunToExit(t *testing.T) {
	b := newWorld(t).boot(0)
	id := b.make(t, "one", spec("false"))
	ch, err := b.Wait(t.Context(), "one", brig.WaitNextExit)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Containers.Start(t.Context(), string(id[:12])); err != nil {
		t.Fatal(err)
	}
	if e := <-ch; e.Code != 1 {
		t.Errorf("exit code %d, want 1", e.Code)
	}
	d := b.get(t, "/one")
	if d.State != brig.Exited || d.ExitCode != 1 || d.Handle != nil || d.PID != 0 || d.FinishedAt.IsZero() {
		t.Errorf("after the end: %+v", d.Status)
	}
	if e := b.wait(t, "one", ""); e.Code != 1 {
		t.Errorf("wait on an exited one: %+v", e)
	}
	want := []string{"container create", "network connect", "container start", "container die", "network disconnect"}
	if got := b.actions(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	b.checkNothingLeft(t)
	if err := b.Containers.Remove(t.Context(), "one", brig.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	b.checkNothingLeft(t)
	_, err = b.Containers.Get(t.Context(), "one")
	wantErr(t, "get a removed one", err, errs.NotFound, "No such container: one")
}

func TestAutoRemove(t *testing.T) {
	b := newWorld(t).boot(0)
	s := spec("true")
	s.AutoRemove, s.Volumes = true, []string{"/data"}
	id := b.make(t, "", s)
	ch, err := b.Wait(t.Context(), string(id), brig.WaitRemoved)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Containers.Start(t.Context(), string(id)); err != nil {
		t.Fatal(err)
	}
	if e := <-ch; e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	if all, _ := b.live(); len(all) != 0 || len(b.volData) != 0 {
		t.Errorf("left: containers %v, volumes %v", all, b.volData)
	}
	b.checkNothingLeft(t)
	if got := b.actions(); got[len(got)-1] != "container destroy" {
		t.Errorf("events %q", got)
	}
}

func TestStartFailures(t *testing.T) {
	for _, c := range []struct {
		cmd  string
		code int
		kind errs.Kind
		text string
	}{
		{"nosuch", 127, errs.Invalid, "executable file not found"},
		{"denied", 126, errs.Invalid, "permission denied"},
		{"broken", 128, errs.Internal, "out of order"},
	} {
		for _, rm := range []bool{false, true} {
			b := newWorld(t).boot(0)
			s := spec(c.cmd)
			s.AutoRemove = rm
			b.make(t, "x1", s)
			removed, err := b.Wait(t.Context(), "x1", brig.WaitRemoved)
			if err != nil {
				t.Fatal(err)
			}
			attached := make(chan error, 1)
			ready := make(chan struct{})
			go func() {
				attached <- b.Attach(t.Context(), "x1", brig.AttachOptions{Stream: true}, brig.IO{Attached: func() { close(ready) }})
			}()
			<-ready
			wantErr(t, c.cmd, b.Containers.Start(t.Context(), "x1"), c.kind, c.text)
			if err := <-attached; err != nil {
				t.Errorf("the pending attach of %s ended with %v", c.cmd, err)
			}
			b.checkNothingLeft(t)
			if rm {
				if e := <-removed; e.Code != c.code {
					t.Errorf("%s --rm: exit code %d, want %d", c.cmd, e.Code, c.code)
				}
				continue
			}
			if d := b.get(t, "x1"); d.State != brig.Created || d.ExitCode != c.code || d.Error == "" {
				t.Errorf("%s: %+v", c.cmd, d.Status)
			}
		}
	}
}

func TestNamesAndRefs(t *testing.T) {
	b := newWorld(t).boot(0)
	id := b.make(t, "alpha", spec("true"))
	_, _, err := b.Create(t.Context(), brig.CreateRequest{Name: "/alpha", Spec: spec("true")})
	wantErr(t, "same name", err, errs.Conflict, fmt.Sprintf(`Conflict. The container name "/alpha" is already in use by container "%s"`, id))
	_, _, err = b.Create(t.Context(), brig.CreateRequest{Name: "-x", Spec: spec("true")})
	wantErr(t, "bad name", err, errs.Invalid, "Invalid container name")
	_, _, err = b.Create(t.Context(), brig.CreateRequest{Spec: brig.Spec{Image: "none"}})
	wantErr(t, "no image", err, errs.NotFound, "No such image: none")
	b.make(t, "beta", spec("true"))
	wantErr(t, "rename to a taken name", b.Rename(t.Context(), "beta", "alpha"), errs.Conflict, "already in use")
	if err := b.Rename(t.Context(), "beta", "gamma"); err != nil {
		t.Fatal(err)
	}
	if d := b.get(t, "gamma"); d.Name != "gamma" {
		t.Errorf("renamed: %q", d.Name)
	}
	_, err = b.Containers.Get(t.Context(), "beta")
	wantErr(t, "old name", err, errs.NotFound, "No such container")
	seen := map[string]bool{}
	for range 50 {
		d := b.get(t, string(b.make(t, "", spec("true"))))
		if seen[d.Name] || !strings.Contains(d.Name, "_") {
			t.Errorf("random name %q", d.Name)
		}
		seen[d.Name] = true
	}
	b.make(t, "beta", spec("true"))
	_, err = b.Containers.Get(t.Context(), "")
	wantErr(t, "empty ref", err, errs.Invalid, "invalid name or ID supplied")
	again := b.world.boot(0)
	if d := again.get(t, "gamma"); d.Name != "gamma" || d.ID == id {
		t.Errorf("after a restart: %+v", d)
	}
}

func TestContainerRemove(t *testing.T) {
	b := newWorld(t).boot(0)
	b.run(t, "up", spec("sleep"))
	wantErr(t, "rm of a running one", b.Containers.Remove(t.Context(), "up", brig.RemoveOptions{}), errs.Conflict,
		`cannot remove container "/up": container is running: stop the container before removing or force remove`)
	if err := b.Pause(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "rm of a paused one", b.Containers.Remove(t.Context(), "up", brig.RemoveOptions{}), errs.Conflict, "must be unpaused first")
	b.world.mu.Lock()
	b.stuck = errors.New("device or resource busy")
	b.world.mu.Unlock()
	wantErr(t, "rm that fails", b.Containers.Remove(t.Context(), "up", brig.RemoveOptions{Force: true}), errs.Internal, "busy")
	if d := b.get(t, "up"); d.State != brig.Dead {
		t.Errorf("after a failed removal: %v", d.State)
	}
	wantErr(t, "start of a dead one", b.Containers.Start(t.Context(), "up"), errs.Conflict, "marked for removal")
	b.world.mu.Lock()
	b.stuck = nil
	b.world.mu.Unlock()
	if err := b.Containers.Remove(t.Context(), "up", brig.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	b.checkNothingLeft(t)
	wantErr(t, "rm of none", b.Containers.Remove(t.Context(), "up", brig.RemoveOptions{Force: true}), errs.NotFound, "No such container")
}

func TestStopAndKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		defer b.Close()
		b.run(t, "soft", spec("sleep"))
		if err := b.Stop(t.Context(), "soft", brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := b.get(t, "soft"); d.ExitCode != 143 {
			t.Errorf("stopped softly: exit code %d", d.ExitCode)
		}
		wantErr(t, "stop twice", b.Stop(t.Context(), "soft", brig.StopOptions{}), errs.NotModified, "")
		wantErr(t, "kill of a stopped one", b.Kill(t.Context(), "soft", ""), errs.Conflict, "is not running")
		wantErr(t, "bad signal", b.Kill(t.Context(), "soft", "FOO"), errs.Invalid, "invalid signal: FOO")

		three := 3
		for _, c := range []struct {
			own, asked *int
			want       time.Duration
		}{{nil, nil, 10 * time.Second}, {&three, nil, 3 * time.Second}, {&three, new(int), 0}} {
			s := spec("stubborn")
			s.StopTimeout = c.own
			b.run(t, "hard", s)
			began := time.Now()
			if err := b.Stop(t.Context(), "hard", brig.StopOptions{Timeout: c.asked}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("stop took %v, want %v", took, c.want)
			}
			if d := b.get(t, "hard"); d.ExitCode != 137 {
				t.Errorf("killed: exit code %d", d.ExitCode)
			}
			if err := b.Containers.Remove(t.Context(), "hard", brig.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		b.run(t, "frozen", spec("sleep"))
		if err := b.Pause(t.Context(), "frozen"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "start of a paused one", b.Containers.Start(t.Context(), "frozen"), errs.Conflict, "unpause")
		if err := b.Containers.Restart(t.Context(), "frozen", brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := b.get(t, "frozen"); d.State != brig.Running {
			t.Errorf("after restart: %v", d.State)
		}
		wantErr(t, "start of a running one", b.Containers.Start(t.Context(), "frozen"), errs.NotModified, "")
		if err := b.Kill(t.Context(), "frozen", "KILL"); err != nil {
			t.Fatal(err)
		}
		b.checkNothingLeft(t)
	})
}

func TestStopForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		defer b.Close()
		b.run(t, "hard", spec("stubborn"))
		done := make(chan error)
		never := -1
		go func() { done <- b.Stop(t.Context(), "hard", brig.StopOptions{Timeout: &never}) }()
		time.Sleep(time.Hour)
		select {
		case err := <-done:
			t.Fatalf("stop without a timeout returned %v", err)
		default:
		}
		if err := b.Kill(t.Context(), "hard", "9"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAttachBeforeStart(t *testing.T) {
	b := newWorld(t).boot(0)
	b.make(t, "talker", spec("echo", "hello"))
	var out bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- b.Attach(t.Context(), "talker", brig.AttachOptions{Stream: true}, brig.IO{Stdout: &out, Attached: func() { close(ready) }})
	}()
	<-ready
	if err := b.Containers.Start(t.Context(), "talker"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || out.String() != "hello\n" {
		t.Errorf("attach: %v, %q", err, out.String())
	}
	b.wait(t, "talker", brig.WaitNotRunning)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- b.Attach(ctx, "talker", brig.AttachOptions{Stream: true}, brig.IO{}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("attach of a client that went away: %v", err)
	}
	ch, err := b.Wait(ctx, "talker", brig.WaitNextExit)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := <-ch; ok {
		t.Errorf("wait of a client that went away gave %+v", e)
	}
}

func TestExec(t *testing.T) {
	b := newWorld(t).boot(0)
	b.run(t, "host", spec("sleep"))
	start := func(stdin io.Reader, out io.Writer, args ...string) (brig.ID, error) {
		id, err := b.ExecCreate(t.Context(), "host", brig.ExecSpec{Args: args})
		if err != nil {
			t.Fatal(err)
		}
		return id, b.ExecStart(t.Context(), string(id), false, brig.IO{Stdin: stdin, Stdout: out})
	}
	var out bytes.Buffer
	id, err := start(strings.NewReader("in"), &out, "cat")
	x, gerr := b.ExecGet(t.Context(), string(id))
	if err != nil || gerr != nil || x.ExitCode == nil || *x.ExitCode != 3 || x.Running || out.String() != "in" {
		t.Errorf("exec: %v, %v, %+v, %q", err, gerr, x, out.String())
	}
	wantErr(t, "exec twice", b.ExecStart(t.Context(), string(id), true, brig.IO{}), errs.Conflict, "has already run")
	id, err = start(nil, nil, "nosuch")
	wantErr(t, "exec of nothing", err, errs.Invalid, "executable file not found")
	if x, _ := b.ExecGet(t.Context(), string(id)); x.ExitCode == nil || *x.ExitCode != 127 {
		t.Errorf("failed exec: %+v", x)
	}
	id, err = start(detaching{}, io.Discard, "cat")
	if !errors.Is(err, brig.ErrDetached) {
		t.Errorf("detach: %v", err)
	}
	if d := b.get(t, "host"); !slices.Equal(d.ExecIDs, []brig.ID{id}) {
		t.Errorf("execs that run: %v, want %v", d.ExecIDs, id)
	}
	if err := b.Pause(t.Context(), "host"); err != nil {
		t.Fatal(err)
	}
	_, err = b.ExecCreate(t.Context(), "host", brig.ExecSpec{Args: []string{"ls"}})
	wantErr(t, "exec in a paused one", err, errs.Conflict, "is paused")
	if err := b.Kill(t.Context(), "host", ""); err != nil {
		t.Fatal(err)
	}
	_, err = b.ExecCreate(t.Context(), "host", brig.ExecSpec{Args: []string{"ls"}})
	wantErr(t, "exec in a stopped one", err, errs.Conflict, "is not running")
	_, err = b.ExecGet(t.Context(), "0123")
	wantErr(t, "no exec", err, errs.NotFound, "No such exec instance: 0123")
}

type detaching struct{}

func (detaching) Read([]byte) (int, error) { return 0, brig.ErrDetached }

func TestTop(t *testing.T) {
	b := newWorld(t).boot(0)
	b.run(t, "host", spec("sleep"))
	for _, args := range [][]string{nil, {"-o", "pid,comm"}} {
		p, err := b.Top(t.Context(), "host", args)
		if err != nil || len(p.Rows) != 1 {
			t.Errorf("top %q: %+v, %v", args, p, err)
		}
	}
	_, err := b.Top(t.Context(), "host", []string{"-o", "comm"})
	wantErr(t, "no PID column", err, errs.Invalid, "Couldn't find PID field")
}

// TestRealRecords runs one life over the real database.
func TestRealRecords(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.root, "brig.db")
	for life := range 2 {
		store, err := records.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b := w.boot(0)
		cfg := b.Containers.cfg
		cfg.Records = store
		c, err := NewContainers(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.Containers.Close()
		b.Containers = c
		if life == 0 {
			s := spec("sleep")
			s.Mounts = []brig.Mount{{Type: brig.MountVolume, Source: "vol", Target: "/v"}}
			b.run(t, "lasting", s)
		} else if err := b.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		d := b.get(t, "lasting")
		if life == 1 && (d.State != brig.Exited || d.ExitCode != 255) { // the world's sweep of the first boot ended it
			t.Errorf("second life: %+v", d.Status)
		}
		if d.Mounts[0].Name != "vol" || d.Endpoints["bridge"].NetworkID != "net1" {
			t.Errorf("life %d: %+v", life, d)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

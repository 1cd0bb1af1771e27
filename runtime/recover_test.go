package runtime

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestRecover(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	up := b.run(t, "up", spec("sleep"))
	ended := b.run(t, "ended", spec("sleep"))
	frozen := b.run(t, "frozen", spec("sleep"))
	s := spec("sleep")
	s.AutoRemove = true
	passing := b.run(t, "passing", s)
	s = spec("sleep")
	s.Restart.Name = "always"
	always := b.run(t, "always", s)
	s.Restart.Name = "unless-stopped"
	halted := b.run(t, "halted", s)
	if err := b.Stop(t.Context(), "halted", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Pause(t.Context(), "frozen"); err != nil {
		t.Fatal(err)
	}
	handles := map[brig.ID]string{}
	for _, id := range []brig.ID{ended, passing, always} {
		handles[id] = b.get(t, string(id)).Handle.JailID
	}
	b.Close()
	if _, running := b.live(); len(running) != 5 {
		t.Fatalf("Close touched containers: %v run", running)
	}
	w.mu.Lock()
	for id, code := range map[brig.ID]int{ended: 7, passing: 0, always: 3} {
		w.jails[handles[id]].finish(code)
	}
	w.mu.Unlock()

	b = w.boot(0)
	if d := b.get(t, string(up)); d.State != brig.Running {
		t.Errorf("up: %v", d.State)
	}
	if d := b.get(t, string(ended)); d.State != brig.Exited || d.ExitCode != 7 {
		t.Errorf("ended: %+v", d.Status)
	}
	if d := b.get(t, string(frozen)); d.State != brig.Paused {
		t.Errorf("frozen: %v", d.State)
	}
	if d := b.get(t, string(halted)); d.State != brig.Exited {
		t.Errorf("halted: %v", d.State)
	}
	if _, err := b.Containers.Get(t.Context(), string(passing)); err == nil {
		t.Error("a container that removes itself is still there")
	}
	if err := b.Stop(t.Context(), string(up), brig.StopOptions{}); err != nil {
		t.Error(err)
	}
	if err := b.Containers.Remove(t.Context(), string(always), brig.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if d := b.get(t, string(up)); d.ExitCode != 143 {
		t.Errorf("an adopted container's end: %+v", d.Status)
	}
	b.checkNothingLeft(t)
}

// TestCrash ends brigd before each step of a life in turn, starts the next one, and compares what was acknowledged with what is there.
// A container that ends just while brigd takes it over is detached from its network like any other.
func TestEndWhileRecovering(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	id := b.run(t, "brief", spec("sleep"))
	b.Close()
	w.onRestore = func() {
		w.mu.Lock()
		for _, p := range w.jails {
			p.finish(7)
		}
		w.mu.Unlock()
		time.Sleep(20 * time.Millisecond) // a watcher that runs already would deal with the end now
	}
	b = w.boot(0)
	exit, err := b.Wait(t.Context(), string(id), brig.WaitNotRunning)
	if err != nil || (<-exit).Code != 7 {
		t.Fatalf("wait: %v", err)
	}
	if err := b.Remove(t.Context(), string(id), brig.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.nets) > 0 || len(b.joins) > 0 {
		t.Errorf("left in networks: %v, known: %v", w.nets, b.joins)
	}
}

func TestCrash(t *testing.T) {
	for _, autoRemove := range []bool{false, true} {
		for k := 1; ; k++ {
			whole := false
			t.Run(fmt.Sprintf("rm=%v/step %d", autoRemove, k), func(t *testing.T) { whole = crashAt(t, k, autoRemove) })
			if whole {
				break
			}
			if k > 200 {
				t.Fatal("the life never ends")
			}
		}
	}
}

// elsewhere is a volume that shows a directory of the host.
func elsewhere(device string) brig.Mount {
	return brig.Mount{Type: brig.MountVolume, Source: "elsewhere", Target: "/elsewhere",
		VolumeOpts: brig.VolumeSpec{Name: "elsewhere", Options: map[string]string{"type": "none", "o": "bind", "device": device}}}
}

// A volume from elsewhere is mounted while somebody uses it, also across lives of brigd.
func TestVolumeFromElsewhere(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	s := spec("sleep")
	s.Mounts = []brig.Mount{elsewhere("/x")}
	b.run(t, "one", s)
	b.run(t, "two", s)
	b.checkNothingLeft(t)
	b.Close()
	b = w.boot(0)
	for _, name := range []string{"one", "two"} {
		b.checkNothingLeft(t)
		if err := b.Stop(t.Context(), name, brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.checkNothingLeft(t)
	if len(w.volSeen) != 0 {
		t.Errorf("still mounted: %v", w.volSeen)
	}
	s.Mounts = []brig.Mount{elsewhere("broken")}
	s.Mounts[0].Source, s.Mounts[0].VolumeOpts.Name = "other", "other"
	b.make(t, "three", s)
	wantErr(t, "start", b.Containers.Start(t.Context(), "three"), errs.Invalid, "failed to mount local volume")
	b.checkNothingLeft(t)
}

func TestVolumeOptions(t *testing.T) {
	b := newWorld(t).boot(0)
	for _, c := range []struct {
		options map[string]string
		want    string // in the error; "": none
	}{
		{nil, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs"}, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, ""},
		{map[string]string{"foo": "x", "type": "tmpfs"}, `create vv: invalid option: "foo"`},
		{map[string]string{"type": "tmpfs"}, `create vv: missing required option: "device"`},
		{map[string]string{"device": "tmpfs"}, `create vv: missing required option: "type"`},
		{map[string]string{"o": "bind"}, `create vv: missing required option: "device"`},
		{map[string]string{"o": "bind", "device": "/x"}, `create vv: missing required option: "type"`},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "size": "1m"}, "quota size requested but no quota support"},
		{map[string]string{"size": "x"}, "create vv: invalid size"},
	} {
		v, err := b.VolumeCreate(t.Context(), brig.VolumeSpec{Name: "vv", Options: c.options})
		if c.want != "" {
			wantErr(t, fmt.Sprint(c.options), err, errs.Invalid, c.want)
			continue
		}
		if err != nil || b.VolumeRemove(t.Context(), v.Name, false) != nil {
			t.Errorf("%v: %v", c.options, err)
		}
	}
}

// life is what a client was told.
type life struct {
	created, started, exited, removed bool
	ended                             bool // the process has, whether the client knows it or not
}

func crashAt(t *testing.T, k int, autoRemove bool) (whole bool) {
	w := newWorld(t)
	b := w.boot(k)
	id, told := live(t.Context(), b, autoRemove)
	b.mu.Lock()
	dead, names := b.dead, slices.Clone(b.names)
	b.mu.Unlock()
	b.Close()
	next := w.boot(0)
	d, err := next.Containers.Get(t.Context(), "crash")
	there := err == nil
	switch {
	case !told.created && there:
		t.Errorf("steps %v: a container nobody was told of", names)
	case told.removed && there:
		t.Errorf("steps %v: a removed container came back", names)
	case told.created && !there && !told.removed && !autoRemove && !removing(names):
		t.Errorf("steps %v: an acknowledged container is gone", names)
	}
	if there && d.ID != id {
		t.Errorf("another container has the name: %s", d.ID)
	}
	if there && told.started && !told.exited && !autoRemove && d.State == brig.Created {
		t.Errorf("steps %v: an acknowledged start is forgotten", names)
	}
	if there && told.ended && (d.State != brig.Exited || d.ExitCode != 143) {
		t.Errorf("steps %v: the exit is forgotten: %+v", names, d.Status)
	}
	next.checkNothingLeft(t)
	if there { // and it still works
		if err := next.Containers.Remove(t.Context(), "crash", brig.RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Errorf("steps %v: %v", names, err)
		}
		next.checkNothingLeft(t)
	}
	return !dead
}

// removing reports whether the removal's transaction, the fourth after create, start and exit, had been done: the client
// wasn't told, and both outcomes are right.
func removing(names []string) bool {
	n := 0
	for i, s := range names {
		if s == "put" && i < len(names)-1 {
			n++
		}
	}
	return n >= 4
}

// live is one container's life as a client drives it, until something fails.
func live(ctx context.Context, b *brigd, autoRemove bool) (id brig.ID, told life) {
	s := spec("sleep")
	s.AutoRemove = autoRemove
	s.Volumes = []string{"/anon"}
	s.Mounts = []brig.Mount{{Type: brig.MountVolume, Source: "crashvol", Target: "/named"}, elsewhere("/x")}
	id, _, err := b.Create(ctx, brig.CreateRequest{Name: "crash", Spec: s})
	if told.created = err == nil; err != nil {
		return id, told
	}
	err = b.Containers.Start(ctx, "crash")
	if told.started = err == nil; err != nil {
		return id, told
	}
	cond := brig.WaitNextExit
	if autoRemove {
		cond = brig.WaitRemoved
	}
	gone, err := b.Wait(ctx, "crash", cond)
	if err != nil {
		return id, told
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, err := b.Containers.Get(ctx, "crash")
	if err != nil {
		return id, told
	}
	jail := d.Handle.JailID
	_ = b.Kill(ctx, "crash", "TERM") // whether it arrived, the world knows
	b.world.mu.Lock()
	p := b.jails[jail]
	signalled := p == nil || p.exit != nil
	b.world.mu.Unlock()
	if told.ended = signalled; !signalled {
		return id, told
	}
	select {
	case <-gone:
		told.removed, told.exited = autoRemove, !autoRemove
	case <-b.died:
		return id, told
	}
	if autoRemove {
		return id, told
	}
	told.removed = b.Containers.Remove(ctx, "crash", brig.RemoveOptions{Volumes: true}) == nil
	return id, told
}

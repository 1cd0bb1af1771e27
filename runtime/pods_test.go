package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
)

// apps asks for a pod with an app for each word, which is its name and, after an equals sign, what it executes.
func apps(words ...string) podspec.Request {
	r := podspec.Request{Volumes: []string{"data"}, Ports: []string{"web:8080"}}
	if len(words) > 1 { // the port's name means the first app's alone
		r.Ports = nil
	}
	for _, w := range words {
		name, exec, _ := strings.Cut(w, "=")
		if exec == "" {
			exec = "sleep"
		}
		r.Apps = append(r.Apps, podspec.AppOptions{Image: "img", Name: name, Exec: []string{exec}})
	}
	return r
}

func (b *brigd) makePodOf(t *testing.T, name string, set brig.PodSettings, words ...string) *brig.Pod {
	t.Helper()
	set.Name = name
	p, _, err := b.PodCreate(t.Context(), apps(words...), set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *brigd) states(t *testing.T, pod string) (out string) {
	t.Helper()
	_, list, err := b.PodGet(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		out += d.App + " " + d.State.String() + ", "
	}
	return strings.TrimSuffix(out, ", ")
}

func TestPodLife(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	p := b.makePodOf(t, "duo", brig.PodSettings{Spec: brig.Spec{Hostname: "both", Labels: map[string]string{"k": "v"}}}, "a", "b")
	if got := b.states(t, "duo"); got != "a created, b created" {
		t.Fatal(got)
	}
	b.checkNothingLeft(t)
	d := b.get(t, "duo-a")
	if d.Pod != p.UUID() || d.App != "a" || d.Spec.Labels["io.brig.pod.uuid"] != p.UUID() || d.Spec.Labels["io.brig.pod.name"] != "duo" || d.Spec.Labels["io.brig.app"] != "a" ||
		d.Spec.Labels["k"] != "v" || d.Spec.Hostname != "both" || len(d.Mounts) != 1 || d.Mounts[0].Name != p.Volumes["data"] || d.Mounts[0].Name != b.get(t, "duo-b").Mounts[0].Name {
		t.Errorf("%+v", d)
	}
	if err := b.PodStart(t.Context(), "duo"); err != nil {
		t.Fatal(err)
	}
	if got := b.states(t, p.UUID()[:9]); got != "a running, b running" {
		t.Error(got)
	}
	wantErr(t, "a second start", b.PodStart(t.Context(), "duo"), errs.NotModified, "pod duo is already running")
	b.checkNothingLeft(t)
	var boxes []*brig.Sandbox
	w.mu.Lock()
	for _, x := range w.jails {
		boxes = append(boxes, x.jail.Pod)
		if x.jail.Hostname != "both" || !slices.ContainsFunc(x.jail.Mounts, func(m brig.JailMount) bool {
			return m.Target == "/etc/hosts" && strings.Contains(m.Source, string(p.ID))
		}) {
			t.Errorf("%+v", x.jail)
		}
	}
	nets := len(w.nets)
	w.mu.Unlock()
	if nets != 1 || len(boxes) != 2 || boxes[0].ID != p.ID || boxes[1].ID != p.ID {
		t.Errorf("%d networks, sandboxes %v", nets, boxes)
	}
	// An app's end doesn't end others; it can be started by itself.
	if err := b.Stop(t.Context(), "duo-a", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := b.states(t, "duo-a"); got != "a exited, b running" {
		t.Error(got)
	}
	b.checkNothingLeft(t)
	for what, err := range map[string]error{
		"docker rm of one app":      b.Containers.Remove(t.Context(), "duo-a", brig.RemoveOptions{Force: true}),
		"docker rename of one app":  b.Containers.Rename(t.Context(), "duo-a", "other"),
		"docker network connect":    b.NetworkConnect(t.Context(), "n", "duo-b", brig.EndpointSpec{}),
		"docker network disconnect": b.NetworkDisconnect(t.Context(), "bridge", "duo-b", false),
	} {
		wantErr(t, what, err, errs.Conflict, "of pod duo")
	}
	wantErr(t, "rm of a pod that runs", b.PodRemove(t.Context(), "duo", false), errs.Conflict, "app b is running")
	if err := b.Start(t.Context(), "duo-a"); err != nil {
		t.Fatal(err)
	}
	if err := b.PodStop(t.Context(), "duo", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a second stop", b.PodStop(t.Context(), "duo", brig.StopOptions{}), errs.NotModified, "already stopped")
	wantErr(t, "kill of what doesn't run", b.PodKill(t.Context(), "duo", ""), errs.Conflict, "none of its apps is running")
	if got := b.states(t, "duo"); got != "a exited, b exited" {
		t.Error(got)
	}
	b.checkNothingLeft(t)
	if err := b.PodStart(t.Context(), "duo"); err != nil {
		t.Fatal(err)
	}
	if err := b.PodRemove(t.Context(), "duo", true); err != nil {
		t.Fatal(err)
	}
	b.checkNothingLeft(t)
	if _, _, err := b.PodGet(t.Context(), "duo"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

// A container by itself is a pod of one app.
func TestPodAlone(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	id := b.run(t, "By_Itself", spec("sleep"))
	p, list, err := b.PodGet(t.Context(), brig.PodUUID(id))
	if err != nil || p.Name != "By_Itself" || len(list) != 1 || list[0].ID != id || p.Apps[0].Name != "by-itself" {
		t.Errorf("%+v %v", p, err)
	}
	solo := b.makePodOf(t, "solo", brig.PodSettings{}, "a")
	all, err := b.PodList(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != solo.ID || all[1].ID != id {
		t.Errorf("%v %v", all, err)
	}
	for _, do := range []func() error{
		func() error { return b.PodStop(t.Context(), string(id), brig.StopOptions{}) },
		func() error { return b.PodStart(t.Context(), "By_Itself") },
		func() error { return b.PodKill(t.Context(), "By_Itself", "") },
		func() error { return b.PodRemove(t.Context(), "By_Itself", false) },
		func() error { return b.Start(t.Context(), "solo-a") },
		// The only app of a pod takes the pod along.
		func() error { return b.Containers.Remove(t.Context(), "solo-a", brig.RemoveOptions{Force: true}) },
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	if all, _ = b.PodList(t.Context()); len(all) != 0 {
		t.Errorf("%v", all)
	}
	b.checkNothingLeft(t)
}

// What fails leaves nothing behind.
func TestPodFailures(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	other := b.make(t, "taken-b", spec("sleep"))
	two := apps("a", "b")
	for what, c := range map[string]struct {
		r    podspec.Request
		set  brig.PodSettings
		kind errs.Kind
		text string
	}{
		"no apps":          {podspec.Request{}, brig.PodSettings{}, errs.Invalid, "the pod has no apps"},
		"no such image":    {podspec.Request{Apps: []podspec.AppOptions{{Image: "nosuch"}}}, brig.PodSettings{}, errs.NotFound, "No such image: nosuch"},
		"a bad name":       {two, brig.PodSettings{Name: "-"}, errs.Invalid, "Invalid pod name"},
		"a taken name":     {two, brig.PodSettings{Name: "taken"}, errs.Conflict, "already in use by container"},
		"a container's":    {two, brig.PodSettings{Name: "taken-b"}, errs.Conflict, "already in use by container"},
		"a terminal":       {two, brig.PodSettings{Spec: brig.Spec{TTY: true}}, errs.Invalid, "for a pod of one app"},
		"rm and restart":   {two, brig.PodSettings{AutoRemove: true, Spec: brig.Spec{Restart: brig.RestartPolicy{Name: "always"}}}, errs.Invalid, "restart policy"},
		"another's stack":  {two, brig.PodSettings{Spec: brig.Spec{NetworkMode: "container:x"}}, errs.Invalid, "can't be in the network of a container"},
		"a bad log driver": {two, brig.PodSettings{Spec: brig.Spec{Log: brig.LogConfig{Driver: "nosuch"}}}, errs.Invalid, "app a: "},
	} {
		_, _, err := b.PodCreate(t.Context(), c.r, c.set)
		wantErr(t, what, err, c.kind, c.text)
		b.checkNothingLeft(t)
	}
	b.makePodOf(t, "taken2", brig.PodSettings{}, "a")
	_, _, err := b.Create(t.Context(), brig.CreateRequest{Name: "taken2", Spec: spec("sleep")})
	wantErr(t, "a container called as a pod", err, errs.Conflict, "already in use")
	if err := b.PodRemove(t.Context(), "taken2", false); err != nil {
		t.Fatal(err)
	}
	// One app that can't start takes the others along.
	b.makePodOf(t, "lame", brig.PodSettings{}, "a", "b=nosuch", "c")
	wantErr(t, "a start that fails", b.PodStart(t.Context(), "lame"), errs.Invalid, "app b: ")
	if got := b.states(t, "lame"); got != "a exited, b created, c created" {
		t.Error(got)
	}
	b.checkNothingLeft(t)
	for _, ref := range []string{"lame", string(other)} {
		if err := b.PodRemove(t.Context(), ref, false); err != nil {
			t.Error(err)
		}
	}
	b.checkNothingLeft(t)
}

// A stop of a pod that is being started ends the event handler that it waits for, and the start with it.
func TestPodStoppedWhileItStarts(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	b.makePodOf(t, "slow", brig.PodSettings{}, "a", "b")
	_, list, err := b.PodGet(t.Context(), "slow")
	if err != nil {
		t.Fatal(err)
	}
	ct, err := b.find(string(list[1].ID))
	if err != nil {
		t.Fatal(err)
	}
	next := list[1].Clone()
	next.Spec.PreStart = []string{"sleep"}
	b.show(ct, next)
	started := make(chan error, 1)
	go func() { started <- b.PodStart(context.Background(), "slow") }()
	for !b.handlerRuns(ct) {
		time.Sleep(time.Millisecond)
	}
	if err := b.PodStop(t.Context(), "slow", brig.StopOptions{}); err != nil {
		t.Error(err)
	}
	wantErr(t, "the start", <-started, errs.Invalid, "app b: ")
	if got := b.states(t, "slow"); got != "a exited, b created" {
		t.Error(got)
	}
	b.checkNothingLeft(t)
}

// handlerRuns reports whether the process of an event handler of ct's has begun.
func (b *brigd) handlerRuns(ct *container) bool {
	h := b.handles(ct)
	if h == nil {
		return false
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	p := b.jails[h.handle.JailID]
	return p != nil && p.started
}

// A pod that shall go at its end does, but not before all its apps have been started.
func TestPodAutoRemove(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	p := b.makePodOf(t, "brief", brig.PodSettings{AutoRemove: true}, "a=true", "b")
	gone, err := b.Wait(t.Context(), string(p.Apps[1].Container), brig.WaitRemoved)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PodStart(t.Context(), "brief"); err != nil {
		t.Fatal(err)
	}
	if exit := b.wait(t, "brief-a", brig.WaitNotRunning); exit.Code != 0 {
		t.Error(exit)
	}
	if got := b.states(t, "brief"); got != "a exited, b running" {
		t.Error(got)
	}
	attaches := 0
	b.mu.Lock()
	for _, s := range b.names {
		if s == "attach" {
			attaches++
		}
	}
	b.mu.Unlock()
	if attaches != 1 {
		t.Errorf("the pod went down between its apps' starts: %d networks", attaches)
	}
	if err := b.PodKill(t.Context(), "brief", ""); err != nil {
		t.Fatal(err)
	}
	if exit := <-gone; exit.Code != 137 {
		t.Error(exit)
	}
	if all, _ := b.PodList(t.Context()); len(all) != 0 {
		t.Errorf("a removal was told before the pod was gone: %v", all)
	}
	b.Close()
	b.checkNothingLeft(t)
	if all, _ := b.PodList(t.Context()); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

// The next brigd takes over a pod that is half up, and one that has ended meanwhile.
func TestPodRecover(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	b.makePodOf(t, "half", brig.PodSettings{}, "a", "b")
	b.makePodOf(t, "over", brig.PodSettings{}, "a", "b")
	b.makePodOf(t, "going", brig.PodSettings{AutoRemove: true}, "a")
	for _, name := range []string{"half", "over", "going"} {
		if err := b.PodStart(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	var end []string
	for _, name := range []string{"half-a", "over-a", "over-b", "going-a"} {
		end = append(end, b.get(t, name).Handle.JailID)
	}
	b.Close()
	w.mu.Lock()
	for _, j := range end {
		w.jails[j].finish(3)
	}
	w.mu.Unlock()
	b = w.boot(0)
	if got := b.states(t, "half"); got != "a exited, b running" {
		t.Error(got)
	}
	if got := b.states(t, "over"); got != "a exited, b exited" {
		t.Error(got)
	}
	b.checkGone(t, "going")
	if err := b.Start(t.Context(), "half-a"); err != nil {
		t.Fatal(err)
	}
	b.checkNothingLeft(t)
	if err := b.PodStop(t.Context(), "half", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	b.checkNothingLeft(t)
}

// checkGone waits until a pod has gone, and then is checkNothingLeft.
func (b *brigd) checkGone(t *testing.T, pod string) {
	t.Helper()
	if _, list, err := b.PodGet(t.Context(), pod); err == nil {
		for _, d := range list {
			b.wait(t, string(d.ID), brig.WaitRemoved)
		}
	}
	if p, _, err := b.findPod(pod); err == nil && p.lock.acquire(t.Context()) == nil {
		p.lock.release()
	}
	if err := b.volumes.acquire(t.Context()); err != nil { // forgetPod holds it until a pod that nobody finds any more has gone wholly
		t.Fatal(err)
	}
	b.volumes.release()
	b.checkNothingLeft(t)
}

// TestPodCrash ends brigd before each step of a pod's life in turn, and compares what was acknowledged with what is there.
func TestPodCrash(t *testing.T) {
	for k := 1; ; k++ {
		whole := false
		t.Run(fmt.Sprintf("step %d", k), func(t *testing.T) { whole = podCrashAt(t, k) })
		if whole {
			break
		}
		if k > 300 {
			t.Fatal("the life never ends")
		}
	}
}

func podCrashAt(t *testing.T, k int) (whole bool) {
	w := newWorld(t)
	b := w.boot(k)
	var created, started, stopped, removed bool
	ctx := context.Background()
	if _, _, err := b.PodCreate(ctx, apps("a", "b"), brig.PodSettings{Name: "crash"}); err == nil {
		created = true
		started = b.PodStart(ctx, "crash") == nil
	}
	if started {
		stopped = b.podStop(ctx, "crash") == nil
	}
	if stopped {
		removed = b.PodRemove(ctx, "crash", false) == nil
	}
	b.mu.Lock()
	dead, names := b.dead, slices.Clone(b.names)
	b.mu.Unlock()
	b.Close()
	next := w.boot(0)
	_, list, err := next.PodGet(ctx, "crash")
	there := err == nil
	switch {
	case there && len(list) != 2:
		t.Errorf("steps %v: a pod with %d apps", names, len(list))
	case !created && there, removed && there:
		t.Errorf("steps %v: created %v, removed %v, and it is there", names, created, removed)
	case created && !stopped && !there:
		t.Errorf("steps %v: an acknowledged pod is gone", names)
	case there && started && !stopped && slices.ContainsFunc(list, func(d *brig.Container) bool { return d.State == brig.Created }):
		t.Errorf("steps %v: an acknowledged start is forgotten", names)
	case there && stopped && slices.ContainsFunc(list, func(d *brig.Container) bool { return d.State != brig.Exited }):
		t.Errorf("steps %v: an acknowledged stop is forgotten", names)
	}
	next.checkNothingLeft(t)
	if there {
		if err := next.PodStart(ctx, "crash"); err != nil && !errs.Is(err, errs.NotModified) {
			t.Errorf("steps %v: start again: %v", names, err)
		}
		next.checkNothingLeft(t)
		if err := next.PodRemove(ctx, "crash", true); err != nil {
			t.Errorf("steps %v: %v", names, err)
		}
		next.checkNothingLeft(t)
	}
	return !dead
}

// podStop returns when the pod has stopped, or brigd is dead.
func (b *brigd) podStop(ctx context.Context, ref string) error {
	done := make(chan error, 1)
	go func() { done <- b.PodStop(ctx, ref, brig.StopOptions{}) }()
	select {
	case err := <-done:
		return err
	case <-b.died:
		return errCrashed
	}
}

// The metadata service knows a pod from before its first process to after its last one, also over a brigd's death, and each app where to ask it.
func TestPodIdentity(t *testing.T) {
	w := newWorld(t)
	w.told = map[string]brig.PodIdentity{}
	b := w.boot(0)
	p := b.makePodOf(t, "known", brig.PodSettings{}, "a", "b")
	b.makePodOf(t, "quiet", brig.PodSettings{Spec: brig.Spec{Labels: map[string]string{"io.brig.metadata": "off"}}}, "a")
	alone := b.run(t, "alone", spec("sleep"))
	knows := func(what string, pods ...string) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := slices.Sorted(maps.Keys(w.told)); !slices.Equal(got, slices.Sorted(slices.Values(pods))) {
			t.Errorf("%s: the service knows %v, want %v", what, got, pods)
		}
	}
	self := brig.PodUUID(alone)
	knows("prepared", self)
	for _, name := range []string{"known", "quiet"} {
		if err := b.PodStart(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	knows("started", self, p.UUID())
	w.mu.Lock()
	told := w.told[p.UUID()]
	for _, x := range w.jails {
		i := slices.Index(x.jail.Env, "AC_METADATA_URL=http://172.30.0.1/"+p.UUID())
		if own := x.jail.Pod != nil && x.jail.Pod.ID == p.ID; own != (i >= 0) {
			t.Errorf("app of the pod: %v, environment %q", own, x.jail.Env)
		}
	}
	w.mu.Unlock()
	if len(told.Apps) != 2 || told.Apps[1].Name != "b" || told.Apps[1].ImageID != testACIID || len(told.Places) != 1 || told.Places[0].Source.String() != "172.30.0.2" || !strings.Contains(string(told.Manifest), `"PodManifest"`) {
		t.Errorf("%+v", told)
	}
	if err := b.Stop(t.Context(), "known-a", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	knows("one app stopped", self, p.UUID())
	b.Close()
	w.told = map[string]brig.PodIdentity{"stale": {}}
	b = w.boot(0)
	knows("taken over", self, p.UUID())
	if err := b.PodStop(t.Context(), "known", brig.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	knows("stopped", self)
	if seen, _, err := b.PodGet(t.Context(), "alone"); err != nil || !strings.Contains(string(seen.Manifest), `"name":"alone"`) {
		t.Errorf("%v %+v", err, seen)
	}
}

// The records of pods that can't be loaded take their apps' along.
func TestBadPodRecords(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	p := b.makePodOf(t, "bad", brig.PodSettings{}, "a")
	w.mu.Lock()
	rec := w.recs["pod/"+string(p.ID)]
	w.recs["pod/"+string(p.ID)] = []byte("{")
	w.mu.Unlock()
	bad, err := BadRecords(t.Context(), (*recSeam)(b))
	if err != nil || len(bad) != 2 || bad[0].Kind != kindPod || len(bad[0].Also) != 1 || bad[1].Kind != kindContainer || !strings.Contains(bad[1].Problem, "no record") {
		t.Errorf("%+v %v", bad, err)
	}
	var back brig.Pod
	if err := json.Unmarshal(rec, &back); err != nil || back.UUID() != p.UUID() || back.Apps[0].Ports[0].Number != 80 || back.Spec.Ports[0].HostPort != 8080 {
		t.Errorf("%+v %v", back, err)
	}
}

package runtime

import (
	"maps"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// A container is known from before its process runs until it has ended, wherever its addresses come from, and no longer if its start fails.
func TestContainerIdentity(t *testing.T) {
	w := newWorld(t)
	w.told = map[string]brig.PodIdentity{}
	b := w.boot(0)
	knows := func(what string, ids ...brig.ID) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		var want []string
		for _, id := range ids {
			want = append(want, brig.PodUUID(id))
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(w.told)); !slices.Equal(got, want) {
			t.Errorf("%s: the service knows %v, want %v", what, got, want)
		}
	}
	failing := b.make(t, "failing", spec("nosuch"))
	if err := b.Containers.Start(t.Context(), string(failing)); err == nil {
		t.Fatal("it starts")
	}
	knows("after a start that failed")
	off := spec("sleep")
	off.Labels = map[string]string{labelMetadata: "off"}
	for name, s := range map[string]brig.Spec{"off": off, "on": spec("sleep")} {
		id := b.run(t, name, s)
		if has := len(b.metadataEnv(t.Context(), b.record(b.byID[id]))) > 0; has != (name == "on") {
			t.Errorf("%s: told where its metadata is: %v", name, has)
		}
		if err := b.Stop(t.Context(), string(id), brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	own := b.run(t, "own", spec("sleep"))
	shared := spec("sleep")
	shared.NetworkMode = "container:" + string(own)
	shares := b.run(t, "shares", shared)
	w.mu.Lock()
	for id, want := range map[brig.ID]string{own: "172.30.0.2", shares: "172.30.0.2"} {
		told := w.told[brig.PodUUID(id)]
		if len(told.Places) != 1 || told.Places[0].Source.String() != want || len(told.Apps) != 1 || told.Apps[0].ImageID != testACIID {
			t.Errorf("%+v", told)
		}
	}
	clear(w.told)
	w.mu.Unlock()
	b.ImageIdentified("sha256:other")
	w.mu.Lock()
	n := len(w.told)
	w.mu.Unlock()
	if n != 0 {
		t.Errorf("%d pods are told of anew for an image that none has", n)
	}
	b.ImageIdentified(w.image.ID)
	w.mu.Lock()
	_, again := w.told[brig.PodUUID(own)]
	w.mu.Unlock()
	if !again {
		t.Error("a pod isn't told of anew when its image's ID has become known")
	}
	for _, id := range []brig.ID{shares, own} {
		if err := b.Stop(t.Context(), string(id), brig.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	knows("stopped")
}

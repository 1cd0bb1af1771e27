package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// tree makes what a build's session would: a root file system that no container's record names.
func (b *brigd) tree(t *testing.T) brig.Tree {
	t.Helper()
	tree := brig.Tree{ID: brig.NewRID(), Parent: brig.DigestOf([]byte("chain"))}
	if err := (*storeSeam)(b).Prepare(t.Context(), tree.ID, tree.Parent, 0); err != nil {
		t.Fatal(err)
	}
	path, err := (*storeSeam)(b).Mount(t.Context(), tree.ID)
	if err != nil {
		t.Fatal(err)
	}
	tree.Path = path
	return tree
}

// discard is what the session does in the end.
func (b *brigd) discard(t *testing.T, tree brig.Tree) {
	t.Helper()
	if err := (*storeSeam)(b).Remove(t.Context(), tree.ID); err != nil {
		t.Fatal(err)
	}
}

// list names all that is beneath a directory, with what links lead to.
func list(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
		if err == nil && p != dir {
			to, _ := os.Readlink(p)
			out = append(out, strings.TrimPrefix(p, dir)+to)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRunStep(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) { os.Mkdir(filepath.Join(root, "etc"), 0o755) }
	b := w.boot(0)
	tree := b.tree(t)
	then := time.Unix(1e9, 0)
	for _, dir := range []string{"etc", "."} {
		if err := os.Chtimes(filepath.Join(tree.Path, dir), then, then); err != nil {
			t.Fatal(err)
		}
	}
	records := len(w.recs)
	var out bytes.Buffer
	var id brig.ID
	s := brig.Spec{Cmd: []string{"echo", "hello"}, Mounts: []brig.Mount{{Type: brig.MountTmpfs, Target: "/deep/down"}}, Volumes: []string{"/vol"}}
	code, err := b.RunStep(t.Context(), brig.StepRun{Tree: tree, Image: w.image.ID, ImageRef: "0123456789ab", Platform: w.image.Platform, Spec: s, Stdout: &out, Stderr: &out,
		Secrets: []brig.Secret{{Target: "/run/secrets/key", Data: []byte("x"), Mode: 0o400, UID: os.Getuid(), GID: os.Getgid()}},
		Started: func(x brig.ID) {
			id = x
			if d := b.get(t, string(x)); d.State != brig.Created || d.ImageRef != "0123456789ab" || d.Name == "" {
				t.Errorf("before the start: %+v", d)
			}
		}})
	if err != nil || code != 0 || out.String() != "hello\n" {
		t.Fatalf("code %d, %v, said %q", code, err, out.String())
	}
	if got := list(t, tree.Path); !slices.Equal(got, []string{"/etc", "/vol"}) {
		t.Errorf("left in the tree: %v", got)
	}
	for _, dir := range []string{"etc"} {
		if st, err := os.Stat(filepath.Join(tree.Path, dir)); err != nil || !st.ModTime().Equal(then) {
			t.Errorf("%s has changed: %v, %v", dir, st.ModTime(), err)
		}
	}
	if _, err := b.Containers.Get(t.Context(), string(id)); !errs.Is(err, errs.NotFound) {
		t.Errorf("the container is still there: %v", err)
	}
	if len(w.recs) != records {
		t.Errorf("records: %v", w.recs)
	}
	want := []string{"container create", "container attach", "container start", "container die", "container destroy"}
	got := slices.DeleteFunc(w.actions(), func(a string) bool { return !strings.HasPrefix(a, "container ") })
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	b.discard(t, tree)
	b.checkNothingLeft(t)
}

// A step's process may do what it likes with what the engine has put into its root.
func TestStepChangesRoot(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	tree := b.tree(t)
	r := brig.StepRun{Tree: tree, Platform: w.image.Platform, Spec: brig.Spec{Cmd: []string{"sleep"}, Mounts: []brig.Mount{{Type: brig.MountTmpfs, Target: "/cache/x"}}, Volumes: []string{"/v"}},
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}
	id := make(chan brig.ID, 1)
	r.Started = func(x brig.ID) { id <- x }
	done := make(chan error, 1)
	go func() { _, err := b.RunStep(t.Context(), r); done <- err }()
	ref := string(<-id)
	for b.get(t, ref).State != brig.Running {
		time.Sleep(time.Millisecond)
	}
	for _, f := range []string{".dockerenv", "cache/y"} {
		if err := os.WriteFile(filepath.Join(tree.Path, f), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(tree.Path, "proc")); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "commit", func() error { _, err := b.Commit(t.Context(), brig.CommitRequest{Container: ref}); return err }(), errs.Conflict, "step of a build")
	wantErr(t, "start", b.Containers.Start(t.Context(), ref), errs.Conflict, "step of a build")
	if err := b.Rename(t.Context(), ref, "another"); err != nil {
		t.Error(err)
	}
	if err := b.Containers.Remove(t.Context(), ref, brig.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := list(t, tree.Path); !slices.Equal(got, []string{"/.dockerenv", "/cache", "/cache/y", "/v"}) {
		t.Errorf("in the tree: %v", got)
	}
	b.discard(t, tree)
	b.checkNothingLeft(t)
}

func TestStepFails(t *testing.T) {
	for _, c := range []struct {
		arg    string
		keep   bool
		code   int
		err    string
		remain bool
	}{
		{"false", false, 1, "", false},
		{"false", true, 1, "", true},
		{"true", true, 0, "", false},
		{"nosuch", false, 0, "executable file not found in $PATH", false},
		{"nosuch", true, 0, "executable file not found in $PATH", true},
	} {
		t.Run(fmt.Sprint(c.arg, c.keep), func(t *testing.T) {
			w := newWorld(t)
			b := w.boot(0)
			tree := b.tree(t)
			var id brig.ID
			code, err := b.RunStep(t.Context(), brig.StepRun{Tree: tree, Image: w.image.ID, ImageRef: "img", Platform: w.image.Platform, KeepFailed: c.keep,
				Spec: brig.Spec{Cmd: []string{c.arg}}, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Started: func(x brig.ID) { id = x }})
			if code != c.code || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("code %d, %v", code, err)
			}
			if got := list(t, tree.Path); len(got) > 0 {
				t.Errorf("left in the tree: %v", got)
			}
			b.discard(t, tree)
			b.checkNothingLeft(t)
			b.Close()
			b = w.boot(0) // what is kept, the next brigd knows
			d, err := b.Containers.Get(t.Context(), string(id))
			if (err == nil) != c.remain {
				t.Fatalf("kept: %v", err)
			}
			if c.remain && (d.State.HasProcess() || d.RootFS == tree.ID || d.Chain != tree.Parent) {
				t.Errorf("kept %+v", d)
			}
			b.checkNothingLeft(t)
		})
	}
}

// A build that is given up leaves nothing, whatever its step does just then.
func TestStepCancelled(t *testing.T) {
	for _, arg := range []string{"sleep", "stubborn"} {
		w := newWorld(t)
		b := w.boot(0)
		tree := b.tree(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for len(w.commands()) == 0 {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		_, err := b.RunStep(ctx, brig.StepRun{Tree: tree, Platform: w.image.Platform, Keep: true, Spec: brig.Spec{Cmd: []string{arg}, Volumes: []string{"/v"}}, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", arg, err)
		}
		b.discard(t, tree)
		b.checkNothingLeft(t)
		if all, _ := b.live(); len(all) > 0 {
			t.Errorf("%s: containers %v", arg, all)
		}
	}
}

// Whenever brigd dies during a step, the next one finds no trace of it but, if that was recorded, the container that was to be kept.
func TestStepCrash(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for k := 1; ; k++ {
			whole := false
			t.Run(fmt.Sprintf("keep=%v/step %d", keep, k), func(t *testing.T) {
				w := newWorld(t)
				b := w.boot(0)
				tree := b.tree(t)
				b.mu.Lock()
				b.steps, b.names, b.fatal = 0, nil, k
				b.mu.Unlock()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan struct{})
				var err error
				go func() {
					defer close(ended)
					_, err = b.RunStep(ctx, brig.StepRun{Tree: tree, Image: w.image.ID, ImageRef: "img", Platform: w.image.Platform, Keep: keep,
						Spec: brig.Spec{Cmd: []string{"true"}, Volumes: []string{"/v"}}, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
				}()
				select {
				case <-ended:
				case <-b.died:
				}
				b.Close()
				cancel()
				<-ended
				whole = err == nil && !b.isDead()
				b = w.boot(0)
				all, _ := b.live()
				if len(all) > 0 && !keep || whole && keep && len(all) != 1 {
					t.Errorf("containers: %v", all)
				}
				if whole {
					b.discardIfThere(tree)
				}
				b.checkNothingLeft(t)
			})
			if whole {
				break
			}
			if k > 100 {
				t.Fatal("the step never ends")
			}
		}
	}
}

func (b *brigd) isDead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

func (b *brigd) discardIfThere(tree brig.Tree) { (*storeSeam)(b).Remove(context.Background(), tree.ID) }

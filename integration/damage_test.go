package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A database that is damaged as a whole: brigd says so and which one, brig doctor says what to do, what runs goes on, and nothing is touched.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	s, cli := daemon(t)
	id := done(t, cli, "run", "-d", "-v", "kept:/kept", image("busybox"), "sh", "-c", "echo data >/kept/f; exec sleep 600")
	pid := done(t, cli, "inspect", "-f", "{{.State.Pid}}", id)
	db := filepath.Join(s.Root, "brig.db")
	s.Kill()
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"wrong magic":    func(b []byte) []byte { clear(b[:2*page]); return b },
		"zeroed":         func(b []byte) []byte { clear(b[2*page:]); return b },
		"something else": func([]byte) []byte { return []byte(strings.Repeat("not a database\n", 3000)) },
	} {
		if err := os.WriteFile(db, damage(append([]byte{}, whole...)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := s.Command(t.Context()).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "brigd: open records "+db+": the file is damaged") {
			t.Errorf("%s: brigd says %v, %s", name, err, out)
		}
		said, code := brigOn(t, s.Host, "doctor", "--root", s.Root)
		if code != 1 || !strings.Contains(said, "the file is damaged") || !strings.Contains(said, "Put back a copy of the file; without one, move it away") {
			t.Errorf("%s: brig doctor ends with %d: %s", name, code, said)
		}
	}
	if err := os.WriteFile(db, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	equal(t, "the container", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", id), "running "+pid)
	equal(t, "its data", done(t, cli, "exec", id, "cat", "/kept/f"), "data")
}

// Records that can't be decoded: all others are served, nothing that they may name is removed, and brig doctor names them and sets them aside.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	s, cli := daemon(t)
	up := done(t, cli, "run", "-d", "--name", "up", "-v", "kept:/kept", image("busybox"), "sh", "-c", "echo data >/kept/f; exec sleep 600")
	hurt := done(t, cli, "create", "--name", "hurt", image("busybox"), "true")
	done(t, cli, "cp", "/etc/passwd", hurt+":/mine")
	lost := done(t, cli, "run", "-d", "--name", "lost", image("busybox"), "sleep", "600")
	done(t, cli, "volume", "create", "torn")
	done(t, cli, "pull", "-q", image("layers"))
	layers := done(t, cli, "inspect", "-f", "{{.Id}}", image("layers"))
	s.Kill()
	was := spoil(t, filepath.Join(s.Root, "brig.db"), map[[2]string]string{{"container", hurt}: `{"ID":`, {"container", lost}: "\x00\x01", {"volume", "torn"}: "[]", {"image", strings.TrimPrefix(layers, "sha256:")}: "", {"network", ""}: "{"})
	there := []string{"store/c", "store/v", "store/l", "containers", "run", "blobs/sha256"}
	before := entries(t, s.Root, there)
	start(t, s)

	equal(t, "containers", done(t, cli, "ps", "-aq", "--no-trunc"), up)
	equal(t, "exec", done(t, cli, "exec", up, "cat", "/kept/f"), "data")
	equal(t, "a new one", done(t, cli, "run", "--rm", image("busybox"), "echo", "well"), "well")
	if r := dockerOn(t, cli, nil, "create", "--name", "hurt", image("busybox"), "true"); r.Code == 0 || !strings.Contains(r.Err, "already") {
		t.Errorf("the name of a damaged one is taken: %s", r)
	}
	equal(t, "volumes", done(t, cli, "volume", "ls", "-q"), "kept")
	if out, code := brigOn(t, s.Host, "gc"); code == 0 || !strings.Contains(out, "records can't be read") {
		t.Errorf("brig gc: %d %s", code, out)
	}
	names := []string{"container " + hurt, "container " + lost, "volume torn", "image " + strings.TrimPrefix(layers, "sha256:"), "ref " + image("layers"), "network "}
	out, code := brigOn(t, s.Host, "doctor")
	for _, n := range names {
		if code != 1 || !strings.Contains(out, "fault: records "+n) || !strings.Contains(out, "--fix would mend it: move the record to "+s.Root+"/damaged") {
			t.Errorf("brig doctor doesn't name %s: %d %s", n, code, out)
		}
	}
	equal(t, "what was there", entries(t, s.Root, there), before)

	// Put right by hand, a record counts again, and what it names is there.
	s.Kill()
	spoil(t, filepath.Join(s.Root, "brig.db"), map[[2]string]string{{"container", hurt}: was[[2]string{"container", hurt}]})
	start(t, s)
	match(t, "its file", done(t, cli, "cp", hurt+":/mine", "-"), "root:[x*]:0:0")
	out, code = brigOn(t, s.Host, "doctor", "--fix")
	if code != 0 || !strings.Contains(out, "mended: move the record to ") || strings.Contains(out, "container "+hurt) {
		t.Errorf("brig doctor --fix: %d %s", code, out)
	}
	if b, err := os.ReadFile(filepath.Join(s.Root, "damaged", "container-"+lost)); err != nil || string(b) != "\x00\x01" {
		t.Errorf("the record that was set aside: %q, %v", b, err)
	}
	if out, code := brigOn(t, s.Host, "doctor", "--fix"); code != 0 || !strings.Contains(out, "it belongs to no container") {
		t.Errorf("brig doctor --fix again: %d %s", code, out)
	}
	healthy(t, s.Host)
	done(t, cli, "create", "--name", "lost", image("busybox"), "true")
	done(t, cli, "volume", "create", "torn")
	done(t, cli, "pull", "-q", image("layers"))
	equal(t, "the image that was damaged", done(t, cli, "run", "--rm", image("layers"), "cat", "/data/b"), "b2")
	equal(t, "the one that ran through it all", done(t, cli, "exec", up, "cat", "/kept/f"), "data")
}

// spoil puts these values into a database that no brigd has open, by kind and key; the key "" is a kind's first. It returns the former ones.
func spoil(t *testing.T, file string, values map[[2]string]string) map[[2]string]string {
	t.Helper()
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	was := map[[2]string]string{}
	err = db.Update(func(tx *bolt.Tx) error {
		for at, v := range values {
			b := tx.Bucket([]byte(at[0]))
			key := []byte(at[1])
			if len(key) == 0 {
				key, _ = b.Cursor().First()
			}
			was[at] = string(b.Get(key))
			if was[at] == "" {
				t.Errorf("no record %v", at)
			}
			if err := b.Put(key, []byte(v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return was
}

// entries lists folders beneath root.
func entries(t *testing.T, root string, folders []string) string {
	t.Helper()
	var out []string
	for _, f := range folders {
		list, err := os.ReadDir(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			out = append(out, f+"/"+e.Name())
		}
	}
	return strings.Join(out, "\n")
}

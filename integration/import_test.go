package integration

import (
	"testing"
)

// What export gives, import takes, compressed or not.
func TestImport(t *testing.T) {
	own(t)
	name := fresh("imported") + ":1"
	id := container(t, image("busybox"), "sh", "-c", "echo kept >/etc/kept")
	ok(t, "start", "-a", id)
	file := t.TempDir() + "/fs.tar"
	ok(t, "export", "-o", file, id)
	match(t, "id", ok(t, "import", "-m", "words", file, name), `^sha256:[0-9a-f]{64}$`)
	defer docker(t, "rmi", name)
	equal(t, "run", ok(t, "run", "--rm", name, "cat", "/etc/kept"), "kept")
	equal(t, "comment", inspect(t, name, "{{.Comment}} {{len .RootFS.Layers}}"), "words 1")
	r := dockerIn(t, "this is no tar", "import", "-")
	equal(t, "no archive", r.Code, 1)
}

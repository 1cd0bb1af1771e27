package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tarBytes packs files in order; a name with "@" is a symbolic link, NAME@TARGET.
func tarBytes(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Typeflag: tar.TypeReg, Size: int64(len(f[1])), Mode: 0o755}
		if name, target, ok := strings.Cut(f[0], "@"); ok {
			h = &tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f[1])
	}
	w.Close()
	return b.Bytes()
}

// imageArchive is an image with one layer as a docker-archive. diff is what the config says of the layer. links: as skopeo copy writes
// it, with the layer's old name a link; else as docker save did before 25.
func imageArchive(t *testing.T, links bool, layer []byte, diff string) string {
	t.Helper()
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/x"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"x"}]}`, diff)
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(config)))
	old := strings.Repeat("ab", 32)
	file, stored := old+"/layer.tar", [][2]string{{old + "/layer.tar", string(layer)}}
	if links {
		file, stored = diff+".tar", [][2]string{{diff + ".tar", string(layer)}, {old + "/layer.tar@../" + diff + ".tar", ""}}
	}
	return tempFile(t, "a.tar", string(tarBytes(t, append(stored, [2]string{old + "/VERSION", "1.0"},
		[2]string{old + "/json", fmt.Sprintf(`{"id":"%s","created":"2020-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Cmd":["/bin/x"]}}`, old)},
		[2]string{id + ".json", config},
		[2]string{"manifest.json", fmt.Sprintf(`[{"Config":"%s.json","RepoTags":["crew/app:1"],"Layers":["%s"]}]`, id, file)},
		[2]string{"repositories", fmt.Sprintf(`{"crew/app":{"1":"%s"}}`, old)})...)))
}

// rootfsOf lists an uncompressed ACI's files with their contents, without directories and what both add in /dev.
func rootfsOf(t *testing.T, path string) string {
	t.Helper()
	var out []string
	for tr := tar.NewReader(bytes.NewReader(readFile(t, path))); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(tr)
		if h.Typeflag == tar.TypeReg && h.Name != "manifest" {
			out = append(out, filepath.Clean(h.Name)+"="+string(b))
		}
	}
}

// TestWhereDocker2ACIIsWrong names what convert's TestOracle can't show with images of a registry alone. There are: zstd layers, opaque
// directories, an OCI index, port ranges, relative working directories, odd variables. Here: skopeo's archives, entries that climb,
// and layers that are not what the image says.
func TestWhereDocker2ACIIsWrong(t *testing.T) {
	own(t)
	tool := oracle(t)
	sum := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
	good := tarBytes(t, [2]string{"bin/x", "x"})
	climbs := tarBytes(t, [2]string{"bin/x", "x"}, [2]string{"../../etc/climbed", "y"})
	for _, c := range []struct {
		name, archive string
		theirs        string // what docker2aci makes of it; "!": it doesn't come to an end by itself
		ours          string // the tree, or "!" and words
	}{
		{"skopeo's archive", imageArchive(t, true, good, sum(good)), "", "rootfs/bin/x=x"},
		{"digest of other bytes", imageArchive(t, false, good, sum(climbs)), "rootfs/bin/x=x", "!digest"},
		{"climbing entry", imageArchive(t, false, climbs, sum(climbs)), "!signal: killed", "!outside|climb|\\.\\."},
	} {
		t.Run(c.name, func(t *testing.T) {
			// docker2aci may go on for ever: it gets one second of a processor, whatever else the machine does.
			out, err := exec.CommandContext(t.Context(), "prlimit", "--cpu=1", tool, t.TempDir(), c.archive).Output()
			theirs := fmt.Sprint("!", err)
			if lines := strings.Fields(string(out)); err == nil {
				theirs = rootfsOf(t, lines[len(lines)-1])
			}
			equal(t, "docker2aci's", theirs, c.theirs)
			to := filepath.Join(t.TempDir(), "x.aci")
			said, good := brigRun(t, "convert", "docker-archive:"+c.archive, to)
			if words, refused := strings.CutPrefix(c.ours, "!"); refused {
				equal(t, "brig takes it", good, false)
				match(t, "brig", said, words)
				return
			}
			if !good {
				t.Fatal(said)
			}
			equal(t, "brig's tree", rootfsOf(t, to), c.ours)
		})
	}
}

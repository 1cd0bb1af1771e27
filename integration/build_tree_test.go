package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A savedImage is what docker save says of an image.
type savedImage struct {
	Config struct {
		History []struct {
			CreatedBy  string    `json:"created_by"`
			Created    time.Time `json:"created"`
			Author     string    `json:"author"`
			Comment    string    `json:"comment"`
			EmptyLayer bool      `json:"empty_layer"`
		} `json:"history"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	raw    []byte   // the config
	layers [][]byte // plain tars, the lowest first
	tars   []string // their names in the archive
}

// saved reads an image as a server saves it, and checks that the layers are what the config says.
func saved(t testing.TB, cli testbed.CLI, ref string) *savedImage {
	t.Helper()
	file := filepath.Join(t.TempDir(), "saved.tar")
	if r := dockerOn(t, cli, nil, "save", "-o", file, ref); r.Code != 0 {
		t.Fatal(r)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	img, err := readSaved(b)
	if err != nil {
		t.Fatalf("save %s: %v", ref, err)
	}
	return img
}

func readSaved(archive []byte) (*savedImage, error) {
	files, links := map[string][]byte{}, map[string]string{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeSymlink { // dockerd's, where layers are the same
			links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
			continue
		}
		files[h.Name] = body
	}
	for name, target := range links {
		files[name] = files[target]
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return nil, fmt.Errorf("manifest.json names %d images: %w", len(manifest), err)
	}
	img := &savedImage{raw: files[manifest[0].Config], tars: manifest[0].Layers}
	if err := json.Unmarshal(img.raw, &img.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(img.tars) != len(img.Config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%d layers, and %d diff_ids", len(img.tars), len(img.Config.RootFS.DiffIDs))
	}
	for i, name := range img.tars {
		l, err := inflated(files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		sum := sha256.Sum256(l)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != img.Config.RootFS.DiffIDs[i] {
			return nil, fmt.Errorf("%s is %s, and its diff_id %s", name, got, img.Config.RootFS.DiffIDs[i])
		}
		img.layers = append(img.layers, l)
	}
	return img, nil
}

func inflated(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// An inode is a file of a tree; names that are hard links share one.
type inode struct {
	kind, says string // says is all but its time
	time       time.Time
}

// flat is the tree that layers make on one another, by path.
func flat(layers [][]byte) (map[string]*inode, error) {
	tree := map[string]*inode{}
	for _, l := range layers {
		r := tar.NewReader(bytes.NewReader(l))
		mine := map[string]bool{}
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
			dir, base := path.Split(name)
			switch hidden, whiteout := strings.CutPrefix(base, ".wh."); {
			case base == ".wh..wh..opq":
				prune(tree, mine, path.Clean(dir)+"/")
				continue
			case whiteout:
				delete(tree, dir+hidden)
				prune(tree, nil, dir+hidden+"/")
				continue
			case name == "":
				name = "."
			}
			if h.Typeflag != tar.TypeDir && name != "." {
				prune(tree, nil, name+"/")
			}
			mine[name] = true
			if h.Typeflag == tar.TypeLink {
				tree[name] = tree[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
				if tree[name] == nil {
					return nil, fmt.Errorf("%s is a hard link to %s, which isn't there", name, h.Linkname)
				}
				continue
			}
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				return nil, err
			}
			tree[name] = &inode{kind: kindOf(h.Typeflag), says: described(h, sum.Sum(nil)), time: h.ModTime}
		}
	}
	return tree, nil
}

// prune takes away what lies below a prefix, but for what this layer brought.
func prune(tree map[string]*inode, mine map[string]bool, prefix string) {
	for name := range tree {
		if strings.HasPrefix(name, prefix) && !mine[name] {
			delete(tree, name)
		}
	}
}

func kindOf(flag byte) string {
	kinds := map[byte]string{tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "link", tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo"}
	return kinds[flag]
}

func described(h *tar.Header, sum []byte) string {
	says := fmt.Sprintf("%04o %d:%d", h.Mode&0o7777, h.Uid, h.Gid)
	switch h.Typeflag {
	case tar.TypeReg:
		if path.Base(h.Name) == "Dockerfile" { // it has the registry's address
			break
		}
		says += fmt.Sprintf(" %d %x", h.Size, sum[:4])
	case tar.TypeSymlink:
		says = fmt.Sprintf("%d:%d -> %s", h.Uid, h.Gid, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		says += fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
	}
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			says += fmt.Sprintf(" %s=%x", name, h.PAXRecords[k])
		}
	}
	return says
}

// treeDiff lists what a tree has beyond, instead of, and without a base's, and which of its files are the same by hard links. Times are told
// where they are older than the test: "then" is a context's. Those of links and directories are not.
func treeDiff(base, tree map[string]*inode) string {
	names := map[*inode][]string{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		names[tree[name]] = append(names[tree[name]], name)
	}
	var b strings.Builder
	all := maps.Clone(base)
	maps.Copy(all, tree)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, is := base[name], tree[name]
		switch {
		case is == nil:
			fmt.Fprintf(&b, "- %s\n", name)
			continue
		case was == nil:
			b.WriteString("+ ")
		case was.kind != is.kind || was.says != is.says || is.kind == "file" && !was.time.Equal(is.time):
			b.WriteString("~ ")
		default:
			continue
		}
		fmt.Fprintf(&b, "%s %s %s", name, is.kind, is.says)
		if is.kind == "file" {
			b.WriteString(" " + age(is.time))
		}
		if same := names[is]; len(same) > 1 && same[0] != name {
			fmt.Fprintf(&b, " = %s", same[0])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func age(t time.Time) string {
	switch {
	case t.Equal(contextTime):
		return "then"
	case time.Since(t) < 24*time.Hour:
		return "now"
	}
	return t.UTC().Format(time.RFC3339)
}

// ageAll gives all in a directory, and the directory, a time; links keep theirs.
func ageAll(dir string, when time.Time) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
			return nil
		}
		return os.Chtimes(p, when, when)
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, os.Chtimes(d, when, when))
	}
	return err
}

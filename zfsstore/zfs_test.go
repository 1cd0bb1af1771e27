package zfsstore

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

const (
	ridA, ridB = "00000000000000aa", "00000000000000bb"
	ridC, ridV = "00000000000000cc", "00000000000000dd"
)

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// line makes one line of zfs list; columns not given are "-".
func line(cols ...string) string {
	for len(cols) < 9 {
		cols = append(cols, "-")
	}
	return strings.Join(cols, "\t") + "\n"
}

func snap(rid string, n int, self, chain, parent string) string {
	return line("tank/b/i/"+rid+"@l"+fmt.Sprint(n), "snapshot", "-", "off", self, chain, parent, digest(9), "42")
}

func TestInventory(t *testing.T) {
	out := line("tank/b", "filesystem", "-") +
		line("tank/b/i", "filesystem", "-") + line("tank/b/c", "filesystem", "-") + line("tank/b/v", "filesystem", "-") +
		line("tank/b/i/"+ridA, "filesystem", "-") +
		snap(ridA, 1, ridA+"@l1", digest(1), "-") +
		snap(ridA, 2, ridA+"@l2", digest(2), digest(1)) +
		line("tank/b/i/"+ridA+"@zfs-auto-snap", "snapshot", "-", "off") +
		line("tank/b/i/"+ridB, "filesystem", "tank/b/i/"+ridA+"@l1") +
		snap(ridB, 2, ridB+"@l2", digest(3), digest(1)) +
		// Properties that came from elsewhere, a snapshot on its way out, and broken values are no layers.
		snap(ridB, 3, ridA+"@l2", digest(4), digest(1)) +
		line("tank/b/i/"+ridB+"@l4", "snapshot", "-", "on", ridB+"@l4", digest(5), "-", digest(9), "1") +
		line("tank/b/i/"+ridB+"@l5", "snapshot", "-", "off", ridB+"@l5", "sha256:short", "-", digest(9), "1") +
		line("tank/b/i/"+ridB+"@l6", "snapshot", "-", "off", ridB+"@l6", digest(6), "-", digest(9), "many") +
		line("tank/b/i/not-ours", "filesystem", "-") +
		line("tank/b/c/"+ridC, "filesystem", "tank/b/i/"+ridA+"@l2") +
		line("tank/b/c/"+ridC+"/deeper", "filesystem", "-") +
		line("tank/b/v/"+ridV, "filesystem", "-")
	list, err := parseList("tank/b", []byte(out))
	if err != nil {
		t.Fatal(err)
	}
	inv := take(list)
	var got []string
	for _, l := range inv.layers {
		got = append(got, fmt.Sprintf("%s@%d %s<%s %d", l.RID, l.Snap, l.Chain[len(l.Chain)-1:], strings.TrimPrefix(string(l.Parent), digest(1)[:70]), l.Size))
	}
	want := []string{ridA + "@1 1< 42", ridA + "@2 2<1 42", ridB + "@2 3<1 42"}
	if !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if !maps.Equal(inv.roots, map[brig.RID]brig.Digest{ridC: brig.Digest(digest(2))}) {
		t.Errorf("roots %v", inv.roots)
	}
	if !slices.Equal(inv.sets["i"], []brig.RID{ridA, ridB}) || !slices.Equal(inv.sets["v"], []brig.RID{ridV}) {
		t.Errorf("datasets %v", inv.sets)
	}
}

func TestParseListRefuses(t *testing.T) {
	for name, out := range map[string]string{
		"columns":        "tank/b\tfilesystem\n",
		"another parent": line("tank/bb/i", "filesystem"),
	} {
		if _, err := parseList("tank/b", []byte(out)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLayerPropsRoundTrip(t *testing.T) {
	l := layer{Chain: brig.Digest(digest(2)), Parent: brig.Digest(digest(1)), Diff: brig.Digest(digest(3)), Size: 7, RID: ridA, Snap: 4}
	for _, parent := range []string{digest(1), ""} {
		l.Parent = brig.Digest(parent)
		cols := []string{"p/i/" + ridA + "@l4", "snapshot", "-", "off"}
		for i, arg := range layerProps(l) {
			if i%2 == 1 {
				_, v, _ := strings.Cut(arg, "=")
				cols = append(cols, v)
			}
		}
		list, err := parseList("p", []byte(line(cols...)))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := list[0].layer(); !ok || got != l {
			t.Errorf("%+v, %v, want %+v", got, ok, l)
		}
	}
}

func TestZFSErrors(t *testing.T) {
	for text, want := range map[string]error{
		"cannot open 'tank/x': dataset does not exist":                                                 errGone,
		"could not find any snapshots to destroy; check snapshot names.":                               errGone,
		"cannot destroy 'tank/x': dataset is busy":                                                     errBusy,
		"cannot unmount '/x': pool or dataset is busy":                                                 errBusy,
		"cannot destroy 'tank/x@l1': snapshot has dependent clones\nuse '-R' to destroy the following": errCloned,
		"cannot create 'tank/x': dataset already exists":                                               errExists,
		"cannot create 'tank/x': out of space":                                                         nil,
	} {
		err := zfsError(&host.Error{Argv: []string{"zfs"}, Code: 1, Stderr: text, Err: errors.New("exit status 1")})
		for _, k := range []error{errGone, errBusy, errCloned, errExists} {
			if errors.Is(err, k) != (k == want) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func TestZFSCanBeMissing(t *testing.T) {
	cfg := Config{Root: filepath.Join(t.TempDir(), "store"), Driver: "zfs", ZFSParent: "no-such-pool/brig"}
	if _, err := Open(t.Context(), cfg); !errs.Is(err, errs.Unavailable) {
		t.Errorf("no such pool: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Open(t.Context(), cfg); !errs.Is(err, errs.Unavailable) {
		t.Errorf("no zfs: %v", err)
	}
}

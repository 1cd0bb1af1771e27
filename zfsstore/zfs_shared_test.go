package zfsstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

// TestZFSSharedPrefix: two images with a common base have its bytes once. The second one is a clone, and nothing is ever promoted.
func TestZFSSharedPrefix(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		noise := make([]byte, 2<<20)
		rand.Read(noise)
		base := b.add("", "f big "+hex.EncodeToString(noise)) // half of what compresses to half: 2 MiB on disk at least
		one, two := b.add(base, "f one 1"), b.add(base, "f two 2")
		b.wantTree("the first", one, "big one")
		b.wantTree("the second", two, "big two")
		low, _ := b.find(base)
		if got := b.get(b.imageOf(two), "origin"); got != b.cfg.ZFSParent+"/i/"+string(low.RID)+"@l1" || b.imageOf(one) != b.imageOf(base) {
			t.Errorf("the second image's origin is %s; the first lies in %s, the base in %s", got, b.imageOf(one), b.imageOf(base))
		}
		if used := b.bytes(b.imageOf(two), "used"); used > 1<<20 {
			t.Errorf("the second image uses %d bytes of its own", used)
		}
		if all := b.bytes(b.cfg.ZFSParent, "used"); all > 6<<20 {
			t.Errorf("both together use %d bytes", all)
		}
		ctx := context.Background()
		b.check(b.Drop(ctx, one))
		b.wantTree("the second, without the first", two, "big two")
		b.kind("drop the base under the second", b.Drop(ctx, base), errs.Conflict)
		for _, c := range []brig.Digest{two, base} {
			b.check(b.Drop(ctx, c))
		}
		if list, err := zfsList(ctx, b.cfg.ZFSParent); err != nil || len(list) != 4 {
			t.Errorf("%d datasets and snapshots are left, %v, want the four that hold the others", len(list), err)
		}
	})
}

// TestZFSNeverPromotes looks at every command of a life: no promote, and no destroy -R.
func TestZFSNeverPromotes(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		log := t.TempDir() + "/log"
		wrapZFS(t, `echo "$@" >>`+log+"\nexec $zfs \"$@\"")
		base := b.add("", "f base 1")
		one, two := b.add(base, "f one 1"), b.add(base, "f two 2")
		id, _ := b.run(two)
		ctx := context.Background()
		b.check(b.Remove(ctx, id))
		for _, c := range []brig.Digest{one, two, base} {
			b.check(b.Drop(ctx, c))
		}
		b.check(b.Sweep(ctx, brig.Live{}))
		said, err := host.Run(ctx, "cat", log)
		b.check(err)
		for line := range bytes.Lines(said) {
			if s := string(line); strings.HasPrefix(s, "promote") || strings.HasPrefix(s, "destroy") && strings.Contains(s, "R") {
				t.Errorf("zfs %s", s)
			}
		}
		if n := bytes.Count(said, []byte("destroy")); n < 4 {
			t.Errorf("only %d destroys were seen in %s", n, said)
		}
	})
}

// get is one property's value; bytes one that is a number.
func (b *bench) get(name, prop string) string {
	b.t.Helper()
	out, err := host.Run(context.Background(), "zfs", "get", "-H", "-p", "-o", "value", prop, name)
	b.check(err)
	return strings.TrimSpace(string(out))
}

func (b *bench) bytes(name, prop string) int64 {
	b.t.Helper()
	n, err := strconv.ParseInt(b.get(name, prop), 10, 64)
	b.check(err)
	return n
}

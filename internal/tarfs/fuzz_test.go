package tarfs

import (
	"fmt"
	"testing"
)

// FuzzExtract holds that nothing beside the root changes, whatever the archive, and that workers make no difference.
func FuzzExtract(f *testing.F) {
	for _, e := range [][]string{
		{"d a", "f a/x 1", "h b a/x", "l s a", "f s/y 2"},
		{"f ../outside/x 1"}, {"l s ../outside", "f s/x 1"}, {"l s /", "f s/x 1"}, {"h x ../outside/sentinel"},
		{"l s ..", "l s/t ../outside", "f s/t/x 1"}, {"f .wh...", "f .wh.a", "f a/.wh..wh..opq"}, {"l a b", "l b a", "f a/x 1"},
		{"d .", "l . ../outside"}, {"l s ../outside", "f s/.wh.sentinel"}, {"p p", "f p 1", "d p", "f p/x 1"},
	} {
		for mode := range 3 {
			f.Add(archive(f, e...), mode)
		}
	}
	for _, c := range hostiles(f) {
		if len(c.b) > 8<<10 { // large ones make it slow and lead nowhere
			continue
		}
		for mode := range 3 {
			f.Add(c.b, mode)
		}
	}
	for _, b := range [][]byte{gnuSparse(f), paxSparse(f)} {
		f.Add(b, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, mode int) {
		var first string
		for _, workers := range []int{1, 3} {
			w := newWitness(t)
			o := w.options(Whiteouts(uint(mode)%3), workers)
			o.Owner, o.MaxEntries, o.MaxBytes = &Owner{-1, -1}, 100, 1<<20
			_, err := extract(t, w.root, b, o)
			w.check(t)
			got := fmt.Sprint(err)
			if err == nil {
				got = tree(t, w.root)
			}
			if workers == 1 {
				first = got
			} else if got != first {
				t.Errorf("with workers\n%s\nwithout\n%s", got, first)
			}
		}
	})
}

package jailer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/jailer/shim"
)

// Found lists the jails of this instance that have anything on the host: a shim, a run directory or a cgroup. A JailID that begins with
// "none-" is that of a run directory without a jail. What a living container has is among them.
func (j *Jailer) Found() []*brig.Handle {
	out := j.shims()
	has := func(is func(*brig.Handle) bool) bool { return slices.ContainsFunc(out, is) }
	entries, _ := os.ReadDir(j.cfg.RunDir)
	for _, e := range entries {
		dir := filepath.Join(j.cfg.RunDir, e.Name())
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !has(func(h *brig.Handle) bool { return h.Dir == dir }) {
			out = append(out, &brig.Handle{JailID: jailID(dir), Dir: dir, Socket: filepath.Join(dir, shim.SocketName)})
		}
	}
	for _, name := range j.groups.children(CgroupParent(j.cfg.Instance)) {
		if !has(func(h *brig.Handle) bool { return h.JailID == name }) {
			dir := filepath.Join(j.cfg.RunDir, "none-"+name) // there is none
			out = append(out, &brig.Handle{JailID: name, Dir: dir, Socket: filepath.Join(dir, shim.SocketName)})
		}
	}
	return out
}

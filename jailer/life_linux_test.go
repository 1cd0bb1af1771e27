package jailer

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"golang.org/x/sys/unix"
)

func TestPause(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		h := b.create(b.jail("sh", "-c", "while :; do sleep 0.1; done"))
		b.start(h)
		for range 2 {
			if err := b.Pause(b.Context(), h); err != nil {
				b.Fatal(err)
			}
		}
		if is, err := b.groups.frozen(b.cgroup(h)); !is || err != nil {
			b.Errorf("frozen: %v %v", is, err)
		}
		for range 2 {
			if err := b.Resume(b.Context(), h); err != nil {
				b.Fatal(err)
			}
		}
		b.Pause(b.Context(), h) // Destroy ends a paused jail as well
	})
}

func TestOOM(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", `x=0123456789abcdef; while :; do x="$x$x"; done`)
		j.Spec.Limits.Memory = 16 << 20
		if _, _, exit := b.run(j, ""); !exit.OOMKilled || exit.Code != 137 {
			b.Errorf("exit %+v", exit)
		}
	})
}

// TestRootIsFree unmounts and removes a container's root while other jails, and their shims, live on.
func TestRootIsFree(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		other := b.create(b.jail("sleep", "1000"))
		b.start(other)
		mnt := filepath.Join(b.dir, "TestJailMount")
		os.Mkdir(mnt, 0o755)
		if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Unmount(mnt, unix.MNT_DETACH) })
		makeRoot(b.TB, mnt)
		j := b.jail("sleep", "1000")
		j.Root = mnt
		h := b.create(j)
		b.start(h)
		late := b.create(b.jail("sleep", "1000"))
		b.start(late)
		if err := b.Destroy(b.Context(), h); err != nil {
			b.Fatal(err)
		}
		// Whether another namespace has it mounted shows in who may take it exclusively: a busy mount refuses a plain unmount.
		if err := unix.Unmount(mnt, 0); err != nil {
			b.Errorf("unmount: %v", err)
		}
		if err := os.Remove(mnt); err != nil {
			b.Errorf("remove: %v", err)
		}
		for _, o := range []*brig.Handle{other, late} {
			for _, pid := range []int{o.ShimPID, o.InitPID} {
				info, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
				if err != nil || strings.Contains(string(info), "TestJailMount") {
					b.Errorf("process %d still has the mount (%v)", pid, err)
				}
			}
		}
	})
}

// TestParentGoesWithTheLast removes jails' cgroups side by side: whichever ends last takes the one they were in along.
func TestParentGoesWithTheLast(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: cgroups")
	}
	groups, err := detectCgroups("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	j := &Jailer{cfg: Config{Instance: testInstance + "-last"}, groups: groups}
	parent := CgroupParent(j.cfg.Instance)
	defer groups.remove(parent)
	for range 100 {
		var ended sync.WaitGroup
		for n := range 4 {
			group := filepath.Join(parent, itoa(n))
			for _, dir := range groups.all(group) {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		for n := range 4 {
			ended.Go(func() {
				if err := groups.remove(filepath.Join(parent, itoa(n))); err != nil {
					t.Error(err)
				}
				j.dropParent()
			})
		}
		ended.Wait()
		for _, dir := range groups.all(parent) {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Fatalf("%s is left: %v", dir, err)
			}
		}
	}
}

// TestBackgroundChild leaves a process behind that holds the pipe: the end is told all the same.
func TestBackgroundChild(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", "sleep 1000 & echo gone; exit 2")
		j.Spec.PidMode = "host"
		if out, _, exit := b.run(j, ""); out != "gone\n" || exit.Code != 2 {
			b.Errorf("got %q %+v", out, exit)
		}
	})
}

// TestAdoptWhileEnding takes over a jail whose process has ended while its last output is still waited for: no end may be lost.
func TestAdoptWhileEnding(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", "sleep 1000 & exit 7") // the child holds the pipe for the whole of the grace
		j.Spec.PidMode = "host"
		h := b.create(j)
		b.start(h)
		for gone := false; !gone; time.Sleep(5 * time.Millisecond) {
			_, err := startTime(h.InitPID)
			gone = err != nil
		}
		running, exit, err := b.Adopt(b.Context(), h)
		if err != nil || running || exit == nil || exit.Code != 7 {
			b.Errorf("running %v, exit %+v, %v", running, exit, err)
		}
	})
}

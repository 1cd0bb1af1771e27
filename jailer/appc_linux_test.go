package jailer

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// TestOwnerOfAPath runs as who owns files, as appc's images may ask.
func TestOwnerOfAPath(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		for name, owner := range map[string][2]int{"etc/one": {1000, 10}, "etc/two": {5, 2000}} {
			path := filepath.Join(b.root, name)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				b.Fatal(err)
			}
			os.Chown(path, owner[0], owner[1])
		}
		os.Symlink("/etc/one", filepath.Join(b.root, "etc/link"))
		for user, want := range map[string]string{
			"/etc/one:/etc/two": "uid=1000(web) gid=2000(extra) groups=2000(extra)\n",
			"/etc/link:0":       "uid=1000(web) gid=0(root) groups=0(root)\n",
			"web:/etc/one":      "uid=1000(web) gid=10(wheel) groups=10(wheel)\n",
		} {
			j := b.jail("id")
			j.Spec.User = user
			if out, errOut, _ := b.run(j, ""); out != want {
				b.Errorf("%s: %q %q", user, out, errOut)
			}
		}
		for user, want := range map[string]string{
			"/etc/none":   "unable to find user /etc/none: no matching entries in passwd file, and no file whose owner it is: no such file or directory",
			"0:/etc/none": "unable to find group /etc/none: no matching entries in group file",
		} {
			j := b.jail("id")
			j.Spec.User = user
			if _, _, err := b.Create(b.Context(), j); !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), want) {
				b.Errorf("%s: %v", user, err)
			}
		}
	})
}

// TestSetsOfSyscalls filters by appc's isolators.
func TestSetsOfSyscalls(t *testing.T) {
	busybox := strings.Fields("access arch_prctl brk dup2 fork clone fcntl fstat stat newfstatat getcwd getdents64 geteuid getuid getgid getegid getpgrp getpgid getpid getppid ioctl " +
		"mmap mprotect munmap open openat poll prlimit64 read readlink rseq sendfile set_robust_list set_tid_address setgid setuid sigaltstack getrandom umask uname vfork wait4 wait3 writev lseek getpgrp")
	eachRuntime(t, func(b *bench) {
		for _, c := range []struct {
			name   string
			filter brig.Syscalls
			nnp    bool
			user   string
			want   string // output
			code   int
		}{
			{"removed, killed", brig.Syscalls{Names: []string{"mkdir", "mkdirat"}}, false, "", "one\n", 128 + 31},
			{"removed, an error", brig.Syscalls{Names: []string{"mkdir", "mkdirat"}, Errno: "EXDEV"}, false, "", "one\nmkdir: can't create directory '/tmp/d': Invalid cross-device link\n", 1},
			{"retained", brig.Syscalls{Retain: true, Names: busybox, Errno: "EXDEV"}, false, "", "one\nmkdir: can't create directory '/tmp/d': Invalid cross-device link\n", 1},
			{"retained, killed", brig.Syscalls{Retain: true, Names: busybox}, true, "web", "one\n", 128 + 31},
			{"all retained", brig.Syscalls{Retain: true, Names: append([]string{"mkdir"}, busybox...)}, false, "", "one\n", 0},
		} {
			os.RemoveAll(filepath.Join(b.root, "tmp/d"))
			j := b.jail("sh", "-c", "echo one; exec busybox mkdir /tmp/d 2>&1")
			j.Spec.Syscalls, j.Spec.NoNewPrivileges, j.Spec.User = &c.filter, c.nnp, c.user
			if out, errOut, exit := b.run(j, ""); out != c.want || exit.Code != c.code {
				b.Errorf("%s: %q %q %+v", c.name, out, errOut, exit)
			}
		}
	})
}

// TestSocketActivation talks to an app over the sockets that it was given.
func TestSocketActivation(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		port := freePort(b)
		j := b.jail("sh", "-c", `echo pid=$LISTEN_PID n=$LISTEN_FDS self=$$; cd /proc/self/fd; echo *; ls -l /proc/self/fd/3 /proc/self/fd/4 | grep -c socket:`)
		j.Netns.Kind = brig.NetnsHost
		j.Spec.Sockets = []brig.Port{{Number: port, Proto: "tcp"}, {Number: port, Proto: "udp"}}
		h := b.create(j)
		// It listens before the process is there.
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(int(port))))
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
		out := newBuffer()
		done := b.attach(h, brig.IO{Stdout: out, Stderr: out})
		b.start(h)
		b.wait(h)
		<-done
		if got := out.String(); !strings.HasPrefix(got, "pid=1 n=2 self=1\n0 1 2 3 4") || !strings.HasSuffix(got, "\n2\n") {
			b.Errorf("%q", got)
		}
		// The shim has let go of them: with the process the port is free.
		if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(int(port)))); err == nil {
			conn.Close()
			b.Error("somebody still listens")
		}
		for want, set := range map[string]func(*brig.Jail){
			"needs a network":            func(j *brig.Jail) { j.Netns.Kind = brig.NetnsPrivate },
			"must be process 1":          func(j *brig.Jail) { yes := true; j.Spec.Init = &yes },
			"enter network namespace":    func(j *brig.Jail) { j.Netns = brig.Netns{Kind: brig.NetnsPath, Path: "/proc/self/ns/mnt"} },
			"listen on port 1/udp":       func(j *brig.Jail) { j.Spec.Sockets = []brig.Port{{Number: 1, Proto: "udp"}, {Number: 1, Proto: "udp"}} },
			"open network namespace /no": func(j *brig.Jail) { j.Netns = brig.Netns{Kind: brig.NetnsPath, Path: "/no"} },
		} {
			bad := b.jail("true")
			bad.Netns.Kind, bad.Spec.Sockets = brig.NetnsHost, j.Spec.Sockets
			set(bad)
			if _, _, err := b.Create(b.Context(), bad); err == nil || !strings.Contains(err.Error(), want) {
				b.Errorf("%s: %v", want, err)
			}
		}
	})
}

func freePort(b *bench) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

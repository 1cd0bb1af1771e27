package jailer

import (
	"errors"
	"os"
	"runtime"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

// sockets opens what a socket-activated app listens on (aci.md, sd_listen_fds(3)), in the jail's network, on all addresses.
func sockets(b *brig.Jail) (files []*os.File, err error) {
	ports := b.Spec.Sockets
	switch {
	case len(ports) == 0:
		return nil, nil
	case b.Netns.Kind == brig.NetnsPrivate:
		return nil, errs.New(errs.Invalid, "a socket-activated app needs a network: this one has none")
	case b.Spec.Init != nil && *b.Spec.Init || b.Spec.PidMode != "" && b.Spec.PidMode != "private":
		return nil, errs.New(errs.Invalid, "a socket-activated app must be process 1 of its own PID namespace")
	}
	onThread(func() {
		if b.Netns.Kind == brig.NetnsPath {
			if err = enterNet(b.Netns.Path); err != nil {
				return
			}
		}
		for _, p := range ports {
			var f *os.File
			if f, err = listenOn(p); err != nil {
				err = errs.New(errs.Invalid, "listen on port %s for a socket-activated app: %w", p, err)
				return
			}
			files = append(files, f)
		}
	})
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

// onThread runs f on a thread that ends with it, and with the thread the namespaces that it has entered. The main thread would stay, so it is
// not that one.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

func enterNet(path string) error {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap(err, "open network namespace %s", path)
	}
	defer unix.Close(ns)
	return errs.Wrap(unix.Setns(ns, unix.CLONE_NEWNET), "enter network namespace %s", path)
}

// listenOn opens one socket for both versions of IP, or for version 4 alone where there is no other.
func listenOn(p brig.Port) (*os.File, error) {
	f, err := listenAs(unix.AF_INET6, &unix.SockaddrInet6{Port: int(p.Number)}, p)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		f, err = listenAs(unix.AF_INET, &unix.SockaddrInet4{Port: int(p.Number)}, p)
	}
	return f, err
}

func listenAs(family int, at unix.Sockaddr, p brig.Port) (*os.File, error) {
	typ, proto := unix.SOCK_STREAM, 0
	switch p.Proto {
	case "udp":
		typ = unix.SOCK_DGRAM
	case "sctp":
		proto = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), p.String())
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil && p.Proto != "udp" { // for which it would mean that others may take the port too
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil && p.Proto != "udp" {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

package logfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// A watcher tells of changes to a directory's files by inotify(7).
type watcher struct {
	changed chan struct{} // holds one note at most: many changes are one
	f       *os.File
	done    chan struct{}
}

// watch begins to watch the files in dir. A change after its return is never missed.
func watch(dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return nil, err
	}
	w := &watcher{changed: make(chan struct{}, 1), f: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{})}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		if _, err := w.f.Read(buf); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// close ends the watch and waits for its goroutine.
func (w *watcher) close() {
	w.f.Close()
	<-w.done
}

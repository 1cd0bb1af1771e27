//go:build !linux

package logfile

import "time"

// interval is how often a file is looked at where nothing tells of its changes.
const interval = 200 * time.Millisecond

// A watcher says at each interval that the file may have changed.
type watcher struct {
	changed chan struct{}
	stop    chan struct{}
	done    chan struct{}
}

func watch(string) (*watcher, error) {
	w := &watcher{make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}

// close ends the watch and waits for its goroutine.
func (w *watcher) close() {
	close(w.stop)
	<-w.done
}

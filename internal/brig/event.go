package brig

import "time"

// Event is one line of docker events.
type Event struct {
	Type       string // container, image, volume, network, daemon
	Action     string
	ActorID    string
	Attributes map[string]string
	Time       time.Time
}

// Info is what runtime knows for /info; the host's own facts are added where the daemon is wired.
type Info struct {
	Containers, Running, Paused, Stopped, Images, Volumes int
}

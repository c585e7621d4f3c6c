package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/state"
	"dokku-expose/internal/rig"
)

const (
	// firstPort is the first public port; each app has as many as private ones.
	firstPort = 10_000
	// maxApps is how many apps there can be below the ephemeral ports (32768-60999).
	maxApps = 10_000
	// answerTimeout bounds the wait for an answer through a public port.
	answerTimeout = 10 * time.Second
)

// site is a Dokku host with many apps, all alike.
type site struct {
	*rig.Host
	docker *fakeDocker
	state  state.Store
	// deploys counts the deploys of each app.
	deploys []int
}

func newSite(ctx context.Context, binary string, e engine, docker *fakeDocker) (*site, error) {
	h, err := rig.New(ctx, rig.Options{Binary: binary, Settings: map[string]string{"engine": e.name}})
	if err != nil {
		return nil, err
	}
	env, err := dokku.FromEnviron(func(key string) string {
		return map[string]string{"DOKKU_ROOT": h.Root, "DOKKU_LIB_ROOT": h.Lib}[key]
	})
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &site{Host: h, docker: docker, state: state.Store{Dir: filepath.Join(env.DataDir(), "apps")}}, nil
}

func appName(i int) string { return fmt.Sprintf("app%05d", i) }

func publicPort(i, nth int) uint16 { return uint16(firstPort + i*len(privatePorts) + nth) }

// portsFile is the PORTS of the ith app.
func portsFile(i int) state.Ports {
	var text strings.Builder
	for nth, private := range privatePorts {
		fmt.Fprintf(&text, "%d:%d\n", publicPort(i, nth), private)
	}
	return state.Ports{File: "PORTS", Text: text.String()}
}

// generation is what one deploy makes: an image, and a container of it. Two generations of an app have different addresses, and
// every other one the same.
type generation struct {
	id, image string
	nth       int
}

func (s *site) generation(i int) generation {
	n := s.deploys[i]
	return generation{fmt.Sprintf("%032x%032x", i+1, n+1), fmt.Sprintf("sha256:%032x%032x", n+1, i+1), 2*i + n%2}
}

func (g generation) addr() netip.Addr { return containerAddr(g.nth) }

// create makes an app that was deployed once.
func (s *site) create() error {
	i := len(s.deploys)
	s.deploys = append(s.deploys, 0)
	if err := os.Mkdir(filepath.Join(s.Root, appName(i)), 0o755); err != nil {
		return err
	}
	g := s.generation(i)
	if err := s.bring(i, g); err != nil {
		return err
	}
	return s.state.Save(appName(i), state.App{Current: g.image, Images: map[string]state.Ports{g.image: portsFile(i)}})
}

// bring runs the container of a generation, as Dokku does: Docker has it, and Dokku's file names it.
func (s *site) bring(i int, g generation) error {
	c, err := newContainer(appName(i), g.id, g.image, g.nth)
	if err != nil {
		return err
	}
	s.docker.add(c)
	return os.WriteFile(filepath.Join(s.Root, appName(i), "CONTAINER.web.1"), []byte(g.id), 0o644)
}

// deployed is what a deploy's switch cost.
type deployed struct {
	took         time.Duration
	lists, calls int
}

// deploy deploys the ith app anew, as far as the switch goes: what the triggers before it do is done for them. Old containers are not
// noted down, so that post-deploy makes no pause for their sake.
func (s *site) deploy(i int) (deployed, error) {
	app := appName(i)
	old := s.generation(i)
	s.deploys[i]++
	g := s.generation(i)
	remembered, err := s.state.Load(app)
	if err != nil {
		return deployed{}, err
	}
	process, err := dokku.FindProcess(os.Getpid())
	if err != nil {
		return deployed{}, err
	}
	ports := portsFile(i)
	// As it was read and admitted before the build.
	remembered.Deploy = &state.Deploy{Process: process}
	remembered.Stage(ports)
	remembered.Build(g.image)
	if err := s.state.Save(app, remembered); err != nil {
		return deployed{}, err
	}
	if err := s.bring(i, g); err != nil {
		return deployed{}, err
	}
	s.docker.counts()
	result, err := s.hook("post-deploy", app, "", "", "latest")
	lists, calls := s.docker.counts()
	if err != nil {
		return deployed{}, err
	}
	for nth := range privatePorts {
		conn, err := s.connect(i, nth)
		if err != nil {
			return deployed{}, err
		}
		if err := conn.Close(); err != nil {
			return deployed{}, err
		}
	}
	s.docker.remove(old.id)
	return deployed{result, lists, calls}, nil
}

// hook calls a trigger and returns how long it ran.
func (s *site) hook(name string, args ...string) (time.Duration, error) {
	result, err := s.Trigger(name, args...)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("%s %s: exit status %d: %s", name, strings.Join(args, " "), result.Code, result.Stderr)
	}
	return result.Took, err
}

// connect connects to the nth public port of the ith app, which must lead to its current container.
func (s *site) connect(i, nth int) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", publicPort(i, nth)), answerTimeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if want := s.generation(i).addr().String(); err == nil && line != want+"\n" {
		err = fmt.Errorf("%s answers, not %s", strings.TrimSpace(line), want)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("public port %d of %s: %w", publicPort(i, nth), appName(i), err), conn.Close())
	}
	return conn, nil
}

// alive tells whether a connection still leads to somebody.
func alive(conn net.Conn) bool {
	answer := make([]byte, 1)
	if conn.SetDeadline(time.Now().Add(answerTimeout)) != nil {
		return false
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, answer)
	return err == nil && answer[0] == '?'
}

// awaitPorts returns when all public ports of all apps lead to their containers.
func (s *site) awaitPorts(ctx context.Context) error {
	deadline := time.Now().Add(time.Minute)
	for i := range s.deploys {
		for nth := range privatePorts {
			conn, err := s.connect(i, nth)
			for ; err != nil; conn, err = s.connect(i, nth) {
				if ctx.Err() != nil || time.Now().After(deadline) {
					return err
				}
				time.Sleep(5 * time.Millisecond)
			}
			if err := conn.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

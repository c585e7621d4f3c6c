package deploy

import (
	"slices"
	"testing"
)

// Pods serve once they are ready and until they are deleted, each by the PORTS of its own image, since a cluster replaces them one by one.
func TestPlanOfPods(t *testing.T) {
	const unready = "CrashLoopBackOff"
	pod := (*scene).pod
	stop := func(c *Endpoint, state string) { c.Running, c.State, c.Leaving = false, state, state == "terminating" }
	app := func() App {
		a := mail()
		a.Pods = true
		return a
	}
	for _, tt := range []struct {
		name     string
		arrange  func(s *scene) App
		want     []string
		problems []string
	}{
		{
			name: "both versions serve during a rollout, and the new one's ports are open",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				pod(s, "mail-2", imageB, "web", 2, 16025, 16026)
				return app()
			},
			want: []string{"25 mail: web=mail-1@15025 web=mail-2@16025", "26 mail: web=mail-2@16026"},
		}, {
			name: "a pod that is being deleted gets nothing, although it accepts",
			arrange: func(s *scene) App {
				stop(pod(s, "mail-1", imageA, "web", 1, 15025), "terminating")
				pod(s, "mail-2", imageA, "web", 2, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				return app()
			},
			want: []string{"25 mail: web=mail-2@15025"},
		}, {
			name: "a version that does not get ready changes nothing",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				stop(pod(s, "mail-2", imageB, "web", 2), unready)
				return app()
			},
			want: []string{"25 mail: web=mail-1@15025"},
		}, {
			name: "connections are held while no pod is ready",
			arrange: func(s *scene) App {
				stop(pod(s, "mail-1", imageA, "web", 1), unready)
				return app()
			},
			want:     []string{"25 mail:"},
			problems: []string{"web (mail-1) is not ready (CrashLoopBackOff)"},
		}, {
			name: "a process type that is scaled to 0 has no port",
			arrange: func(s *scene) App {
				stop(pod(s, "mail-1", imageA, "web", 1, 15025), "terminating")
				s.serves(25, "mail", "127.9.0.1:15025")
				return app()
			},
			problems: []string{"the process type web has no container"},
		}, {
			name: "a deploy on its way keeps no pod from serving",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				a := app()
				a.Deploying = &Deployment{}
				return a
			},
			want: []string{"25 mail: web=mail-1@15025"},
		}, {
			name: "connections are held between the last pod of the former name and the first of the new one",
			arrange: func(s *scene) App {
				a := app()
				a.Deploying = &Deployment{Former: "post", Before: []Place{place("web", "post-1")}}
				return a
			},
			want: []string{"25 mail:"},
		}, {
			name: "the containers of an app that has moved to pods serve until one of these is ready",
			arrange: func(s *scene) App {
				s.container("mail-c", imageA, "web.1", 1, 15025)
				stop(pod(s, "mail-2", imageB, "web", 2), unready)
				a := app()
				a.Left, a.Places = "docker", []Place{place("web.1", "mail-c")}
				return a
			},
			want: []string{"25 mail: web.1=mail-c@15025"},
		}, {
			name: "the pods take over from the containers",
			arrange: func(s *scene) App {
				s.container("mail-c", imageA, "web.1", 1, 15025)
				pod(s, "mail-2", imageA, "web", 2, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				a := app()
				a.Left, a.Places = "docker", []Place{place("web.1", "mail-c")}
				return a
			},
			want: []string{"25 mail: web=mail-2@15025"},
		}, {
			name: "the pods of an app that moves to containers serve until the switch",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				s.container("mail-c", imageA, "web.1", 2, 15025)
				a := mail(place("web.1", "mail-c"))
				a.Left = "k3s"
				return a
			},
			want: []string{"25 mail: web=mail-1@15025"},
		}, {
			name: "its containers serve where no pod is ready",
			arrange: func(s *scene) App {
				stop(pod(s, "mail-1", imageA, "web", 1), unready)
				s.container("mail-c", imageA, "web.1", 2, 15025)
				a := mail(place("web.1", "mail-c"))
				a.Left = "k3s"
				return a
			},
			want: []string{"25 mail: web.1=mail-c@15025"},
		}, {
			name: "nothing changes while the source that the app has left can't be asked",
			arrange: func(s *scene) App {
				pod(s, "mail-2", imageA, "web", 2, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				a := app()
				a.Left = lostSource
				return a
			},
			want: []string{"25 mail: =@15025?"},
		}, {
			name: "a pod counts for nothing where its app has not been on its cluster",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				s.container("mail-c", imageA, "web.1", 2, 15025)
				return mail(place("web.1", "mail-c"))
			},
			want: []string{"25 mail: web.1=mail-c@15025"},
		}, {
			name: "the setting upstream is Docker's",
			arrange: func(s *scene) App {
				pod(s, "mail-1", imageA, "web", 1, 15025)
				a := app()
				a.Upstream = UpstreamPublished
				return a
			},
			want: []string{"25 mail: web=mail-1@15025"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(scene)
			s.expect(t, tt.want, tt.problems, tt.arrange(s))
		})
	}
}

// pod adds a ready pod.
func (s *scene) pod(id, image, process string, n byte, ports ...uint16) *Endpoint {
	s.container(id, image, process, n, ports...)
	c := &s.containers[len(s.containers)-1]
	c.Pod, c.NetworkMode = true, "pod"
	return c
}

// The last pod that is ready leaves a route that holds connections, at once and not only once it is known what has become of it.
func TestLastPodLeavesARouteThatHolds(t *testing.T) {
	s := new(scene)
	s.pod("mail-1", imageA, "web", 1, 15025)
	s.serves(25, "mail", "127.9.0.1:15025")
	a := mail()
	a.Pods = true
	table := Reduce(s.snapshot(a), Loss{Died: []string{"mail-1"}})
	if table == nil || !slices.Equal(lines(*table), []string{"25 mail:"}) {
		t.Errorf("got %v", table)
	}
}

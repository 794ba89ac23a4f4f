"""Supervision: who is restarted, how often, and what happens then.

Interface that the rest of the appliance builds on (semantics of ../RELIABILITY's section on supervision):

    Progress                      callable; a child calls it with each step of useful work
    ChildSpec(name, start, restart=Restart.PERMANENT, health=None, stop_after=5.0, intensity=Intensity(5, 60.0),
              on_excess=Excess.PARK, order=0)
        start: async callable(progress) that runs until done; a new call is a new life
    Supervisor(name, clock…)
        async with supervisor: …            (or ``await supervisor.run(task_status=…)`` in a nursery)
        supervisor.add(spec) -> Child       (child.state, child.restarts, child.last_fault, child.progress_count)
        await supervisor.stop(name)         (one child, ordered, within stop_after)
        await supervisor.shut_down()        (all, by descending ``order``)
        supervisor.children -> Mapping[str, Child]
"""

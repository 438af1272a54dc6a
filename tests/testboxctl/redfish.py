# redfish.py PORT CERT KEY USER PASSWORD [QMP QMP]: sushy-tools' emulator of a BMC with two machines, which obeys at once. With the sockets of
# QEMU's machines (QMP), these are on, and are reset.
import random, socket, ssl, sys, tempfile
import bcrypt
from sushy_tools.emulator import main

from sushy_tools.emulator.resources.systems.fakedriver import FakeDriver

port, cert, key, user, password, *machines = sys.argv[1:]
# It applies what it is told after a random time.
random.randint = lambda low, high: 0
auth = tempfile.NamedTemporaryFile("w")
auth.write(user + ":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode() + "\n")
auth.flush()

def switched(self, identity, state, switch=FakeDriver.set_power_state):
    switch(self, identity, state)
    if machines and "Restart" in state:
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.connect(machines[int(self.name(identity)[-1]) - 1])
            answers = qmp.makefile()
            for command in "qmp_capabilities", "system_reset":
                qmp.sendall(b'{"execute": "%s"}' % command.encode())
                while '"return"' not in answers.readline():
                    pass

FakeDriver.set_power_state = switched
system = lambda n: {"uuid": f"0000000{n}-0000-0000-0000-000000000000", "name": f"node{n}", "power_state": "On" if machines else "Off", "nics": []}
with tempfile.TemporaryDirectory() as state:
    main.app.configure(extra_config={
        "SUSHY_EMULATOR_FAKE_DRIVER": True, "SUSHY_EMULATOR_FAKE_SYSTEMS": [system(1), system(2)],
        "SUSHY_EMULATOR_STATE_DIR": state, "SUSHY_EMULATOR_AUTH_FILE": auth.name})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # All that many BMCs have.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    main.app.run(host="127.0.0.1", port=int(port), ssl_context=context)

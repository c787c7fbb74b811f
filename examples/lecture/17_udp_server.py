"""A class of processes that is a UDP server: it ends when nothing comes for a second."""

import socket

import manyhands.multiprocessing as mp


class UDPServer(mp.Process):
    def __init__(self, host: str, port: int) -> None:
        self.__host = host
        self.__port = port
        self.__sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.__sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.__sock.bind((self.__host, self.__port))
        self.__sock.settimeout(1)
        super().__init__()

    def run(self) -> None:
        while True:
            try:
                self.__sock.recvfrom(10)
            except TimeoutError:
                break
        self.__sock.close()


udp_server = UDPServer("127.0.0.1", 8003)
udp_server.start()
udp_server.join()
print(f"Exit code: {udp_server.exitcode}")

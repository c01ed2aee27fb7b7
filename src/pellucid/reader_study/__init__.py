"""Reader studies: cases shown at four levels of explanation in a balanced random order; answers, confidence and time; what can be said of them."""

from pellucid.reader_study.answers import Answer as Answer
from pellucid.reader_study.answers import AnswerSheet as AnswerSheet
from pellucid.reader_study.material import LEVELS as LEVELS
from pellucid.reader_study.material import MapFile as MapFile
from pellucid.reader_study.material import ReaderStudy as ReaderStudy
from pellucid.reader_study.material import ReadingCase as ReadingCase
from pellucid.reader_study.material import SimilarCase as SimilarCase
from pellucid.reader_study.material import read_reader_study as read_reader_study
from pellucid.reader_study.order import Showing as Showing
from pellucid.reader_study.order import order as order
from pellucid.reader_study.preparing import prepare_reader_study as prepare_reader_study
from pellucid.reader_study.results import Results as Results
from pellucid.reader_study.results import results as results

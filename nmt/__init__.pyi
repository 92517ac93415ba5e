"""The public names of the package, and where each of them lives; `__init__.py` and type checkers read them here."""

from nmt.architectures import RNNArchitecture as RNNArchitecture
from nmt.architectures import TransformerArchitecture as TransformerArchitecture
from nmt.checkpoint.manager import CheckpointManager as CheckpointManager
from nmt.config import Config as Config
from nmt.config import SearchSettings as SearchSettings
from nmt.config import load as _load
from nmt.config.data import register_tokenizer as register_tokenizer
from nmt.config.section import Misfit as Misfit
from nmt.config.section import Section as Section
from nmt.config.section import setting as setting
from nmt.config.settings import register_model as register_model
from nmt.config.training import register_optimizer as register_optimizer
from nmt.config.training import register_schedule as register_schedule
from nmt.data import Batch as Batch
from nmt.data import BatchStream as BatchStream
from nmt.data import Cursor as Cursor
from nmt.data import TokenStore as TokenStore
from nmt.data import open_store as open_store
from nmt.errors import CheckpointError as CheckpointError
from nmt.errors import ConfigError as ConfigError
from nmt.errors import DataError as DataError
from nmt.errors import ExportError as ExportError
from nmt.errors import NMTError as NMTError
from nmt.errors import TrainingError as TrainingError
from nmt.inference.ctranslate2_engine import CTranslate2Translator as CTranslate2Translator
from nmt.inference.evaluation import Evaluation as Evaluation
from nmt.inference.evaluation import Score as Score
from nmt.inference.evaluation import evaluate_files as evaluate_files
from nmt.inference.evaluation import evaluate_lines as evaluate_lines
from nmt.inference.translation import Tally as Tally
from nmt.inference.translation import Translation as Translation
from nmt.inference.translator import Translator as Translator
from nmt.kinds import register_cell as register_cell
from nmt.kinds import register_loss as register_loss
from nmt.kinds import register_mixer as register_mixer
from nmt.layers import TiedEmbeddingsTransposed as TiedEmbeddingsTransposed
from nmt.models.contract import Seq2Seq as Seq2Seq
from nmt.models.contract import Vocabularies as Vocabularies
from nmt.models.contract import build_model as build_model
from nmt.models.rnn import RNN as RNN
from nmt.models.transformer import Transformer as Transformer
from nmt.recipes.train import train as train
from nmt.search import SearchResult as SearchResult
from nmt.search import beam_search as beam_search
from nmt.search import greedy_search as greedy_search
from nmt.text import TextPair as TextPair
from nmt.text import Tokenizer as Tokenizer
from nmt.text import Vocabulary as Vocabulary
from nmt.training.trainer import Trainer as Trainer
from nmt.tying import TieGroup as TieGroup
from nmt.tying import tie_groups as tie_groups
from nmt.tying import verify_ties as verify_ties

load_config = _load
__version__: str
